//! Hands libFuzzer's inputs to the target that the variable `TARGET` names.

#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fuzz_target!(|data: &[u8]| {
    let run = TARGET.get_or_init(|| {
        let name = std::env::var("TARGET").unwrap_or_default();
        match targets::ALL.iter().find(|target| target.name == name) {
            Some(target) => target.run,
            None => {
                let known: Vec<&str> = targets::ALL.iter().map(|target| target.name).collect();
                eprintln!("TARGET={name:?} is no fuzz target; known are: {}", known.join(" "));
                std::process::exit(2);
            }
        }
    });
    run(data);
});
