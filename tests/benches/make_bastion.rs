//! Writes the snapshot folder of a bastion of any size: `make_bastion FOLDER RULES MEMBERS`. Prints the rules it has.

mod bastion;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, rules, members] = arguments.as_slice() else {
        eprintln!("usage: make_bastion FOLDER RULES MEMBERS");
        return ExitCode::from(2);
    };
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let folder = PathBuf::from(folder);
    let mut count = 0;
    for (name, bytes) in bastion::files(number(rules), number(members)) {
        let path = folder.join(&name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        if name.ends_with("-save.txt") {
            count += String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains(" -A ")).count();
        }
        fs::write(path, bytes).expect("writable");
    }
    println!("{count}");
    ExitCode::SUCCESS
}
