//! Programs and filters that see packets outside netfilter: XDP, tc, and BPF programs at netfilter's hooks.
//!
//! Read from `bpftool -j net` (`bpf.json`, with or without the output of `bpftool -j prog` behind it), from
//! `tc filter show` (`tc.txt`) and from `ip -j -d link`. What they decide is not read.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::diagnostic::{Level, Parsed, Remarks};

/// Where a program sees packets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum ProgramHook {
    /// In the driver, or right behind it.
    Xdp,
    /// tc or tcx, before the IP stack.
    Ingress,
    /// tc or tcx, behind it.
    Egress,
    /// A hook of netfilter.
    Netfilter,
}

impl ProgramHook {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Xdp => "XDP",
            Self::Ingress => "tc ingress",
            Self::Egress => "tc egress",
            Self::Netfilter => "netfilter",
        }
    }
}

/// A program or filter that is attached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// Where.
    pub hook: ProgramHook,
    /// On which device; `None` for all, or when the listing does not tell.
    pub device: Option<Box<str>>,
    /// Its name; `?` when the listing has none.
    pub name: Box<str>,
    /// Its number among BPF programs.
    pub id: Option<u32>,
    /// Hash of its instructions.
    pub tag: Option<Box<str>>,
    /// What it is: `bpf`, or the kind of a tc filter (`u32`, `flower`, …).
    pub kind: Box<str>,
    /// The file that tells.
    pub source: &'static str,
}

impl Program {
    /// Whether Felix's names are on it.
    #[must_use]
    pub fn is_calico(&self) -> bool {
        ["cali_tc", "calico_tc", "cali_xdp", "prefilter_v1"].iter().any(|start| self.name.starts_with(start))
    }

    /// In words: `BPF program cali_tc_preamble (id 12, tag 0a1b) at tc ingress of eth0`.
    #[must_use]
    pub fn words(&self) -> String {
        let what = if &*self.kind == "bpf" { "BPF program" } else { "filter" };
        let id = self.id.map(|id| format!("id {id}"));
        let tag = self.tag.as_ref().map(|tag| format!("tag {tag}"));
        let told: Vec<String> = id.into_iter().chain(tag).collect();
        let told = if told.is_empty() { String::new() } else { format!(" ({})", told.join(", ")) };
        let place = self.device.as_deref().map_or_else(String::new, |device| format!(" of {device}"));
        format!("{what} {}{told} at {}{place}", self.name, self.hook.name())
    }
}

/// Reads `bpftool -j net`, and names what it numbers from `bpftool -j prog` behind it.
#[must_use]
pub fn attached(source: &Arc<str>, text: &[u8]) -> Parsed<Vec<Program>> {
    let mut remarks = Remarks::new(source);
    let mut found = Vec::new();
    let mut named: BTreeMap<u32, (Box<str>, Option<Box<str>>)> = BTreeMap::new();
    for document in serde_json::Deserializer::from_slice(text).into_iter::<Value>() {
        let document = match document {
            Ok(document) => document,
            Err(error) => {
                let at = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
                remarks.add(Level::Error, at(error.line()), at(error.column()), format!("not used: {error}"));
                break;
            }
        };
        for object in document.as_array().into_iter().flatten() {
            let id = object.get("id").and_then(number);
            match id.filter(|_| object.get("type").is_some()) {
                Some(id) => {
                    let tag = word(object, "tag").map(Into::into);
                    named.insert(id, (word(object, "name").unwrap_or("?").into(), tag));
                }
                None => net(object, &mut found),
            }
        }
    }
    for program in &mut found {
        if let Some((name, tag)) = program.id.and_then(|id| named.get(&id)) {
            if &*program.name == "?" {
                program.name.clone_from(name);
            }
            program.tag.clone_from(tag);
        }
    }
    remarks.with(found)
}

fn net(object: &Value, found: &mut Vec<Program>) {
    for (key, default) in
        [("xdp", ProgramHook::Xdp), ("tc", ProgramHook::Ingress), ("netfilter", ProgramHook::Netfilter)]
    {
        for program in object.get(key).and_then(Value::as_array).into_iter().flatten() {
            let kind = word(program, "kind").unwrap_or_default();
            let hook =
                if default == ProgramHook::Ingress && kind.contains("egress") { ProgramHook::Egress } else { default };
            found.push(Program {
                hook,
                device: word(program, "devname").map(Into::into),
                name: word(program, "name").unwrap_or("?").into(),
                id: program.get("id").or_else(|| program.get("prog_id")).and_then(number),
                tag: None,
                kind: "bpf".into(),
                source: "bpf.json",
            });
        }
    }
}

/// The XDP programs an element of `ip -j -d link` tells.
pub(super) fn of_link(element: &serde_json::Map<String, Value>, device: &str) -> Vec<Program> {
    let Some(xdp) = element.get("xdp") else { return Vec::new() };
    let several = xdp.get("attached").and_then(Value::as_array).map(|all| all.iter().collect::<Vec<_>>());
    let programs = several.unwrap_or_else(|| vec![xdp]).into_iter().filter_map(|one| one.get("prog"));
    programs
        .map(|program| Program {
            hook: ProgramHook::Xdp,
            device: Some(device.into()),
            name: word(program, "name").unwrap_or("?").into(),
            id: program.get("id").and_then(number),
            tag: word(program, "tag").map(Into::into),
            kind: "bpf".into(),
            source: "ip-link.json",
        })
        .collect()
}

/// Reads the output of `tc filter show dev DEVICE ingress|egress`, each behind a line `# tc filter show …` that says so.
#[must_use]
pub fn filters(text: &[u8]) -> Vec<Program> {
    let mut found: Vec<Program> = Vec::new();
    let (mut device, mut hook) = (None, ProgramHook::Ingress);
    let mut two_ways = true;
    for line in String::from_utf8_lossy(text).lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["#", "tc", "filter", "show", "dev", name, way, ..] = words.as_slice() {
            (device, two_ways) = (Some(Box::from(*name)), false);
            hook = if *way == "egress" { ProgramHook::Egress } else { ProgramHook::Ingress };
            continue;
        }
        // filter protocol all pref 49152 bpf chain 0 handle 0x1 name:[id] direct-action … id 5 tag 0a1b jited
        let (Some(&"filter"), Some(at)) = (words.first(), words.iter().position(|word| *word == "pref")) else {
            continue;
        };
        let Some(kind) = words.get(at + 2) else { continue };
        let behind = |name: &str| {
            let place = words.iter().skip(at).position(|word| *word == name)?;
            words.get(at + place + 1).copied()
        };
        let name = match *kind {
            "bpf" => match behind("handle") {
                // the head of the filter's chain; the program follows in a line of its own
                None => continue,
                // classic programs have no name
                Some(_) if words.contains(&"bytecode") => "bytecode",
                Some(handle) => words.iter().skip_while(|word| **word != handle).nth(1).copied().unwrap_or("?"),
            },
            kind if behind("fh").is_none() && behind("handle").is_none() && kind == "u32" => continue,
            kind => kind,
        };
        let program = |hook| Program {
            hook,
            device: device.clone(),
            name: name.split(":[").next().unwrap_or(name).into(),
            id: behind("id").and_then(|id| id.parse().ok()),
            tag: behind("tag").map(Into::into),
            kind: (*kind).into(),
            source: "tc.txt",
        };
        found.push(program(hook));
        if two_ways {
            found.push(program(ProgramHook::Egress));
        }
    }
    found.dedup();
    found
}

/// Adds what another listing tells; the same program counts once.
pub fn merge(known: &mut Vec<Program>, more: Vec<Program>) {
    for program in more {
        let same = |old: &&mut Program| {
            old.hook == program.hook && old.device == program.device && old.id.is_some() && old.id == program.id
        };
        match known.iter_mut().find(same) {
            Some(old) => {
                if &*old.name == "?" {
                    old.name = program.name;
                }
                old.tag = old.tag.take().or(program.tag);
            }
            None => known.push(program),
        }
    }
}

fn word<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

fn number(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(programs: &[Program]) -> Vec<String> {
        programs.iter().map(Program::words).collect()
    }

    #[test]
    fn what_is_attached_is_named_by_the_list_of_programs() {
        let text = br#"[{"xdp":[{"devname":"eth0","ifindex":2,"mode":"driver","id":5}],
            "tc":[{"devname":"eth0","ifindex":2,"kind":"clsact/ingress","name":"cali_tc_preamble","id":7},
                  {"devname":"eth1","ifindex":3,"kind":"tcx/egress","name":"x","prog_id":8}],"flow_dissector":[],"netfilter":[]}]
            [{"id":5,"type":"xdp","name":"cali_xdp_preamb","tag":"0a1b"}]"#;
        let read = attached(&Arc::from("bpf.json"), text);
        assert_eq!(
            words(&read.value),
            [
                "BPF program cali_xdp_preamb (id 5, tag 0a1b) at XDP of eth0",
                "BPF program cali_tc_preamble (id 7) at tc ingress of eth0",
                "BPF program x (id 8) at tc egress of eth1",
            ]
        );
        assert!(read.value[0].is_calico() && read.value[1].is_calico() && !read.value[2].is_calico());
        let cut = attached(&Arc::from("bpf.json"), b"nothing");
        assert!(cut.diagnostics.iter().any(|remark| remark.level == Level::Error));
    }

    #[test]
    fn filters_of_tc_by_device_and_way() {
        let text = b"# tc qdisc show\nqdisc clsact ffff: dev v0 parent ffff:fff1\n# tc filter show dev v0 ingress\n\
            filter protocol all pref 49152 bpf chain 0 \n\
            filter protocol all pref 49152 bpf chain 0 handle 0x1 cali_tc_preamble:[12] direct-action not_in_hw id 12 tag 0a1b jited \n\
            # tc filter show dev v0 egress\nfilter protocol ip pref 10 u32 chain 0 \n\
            filter protocol ip pref 10 u32 chain 0 fh 800: ht divisor 1 \n\
            filter protocol ip pref 10 u32 chain 0 fh 800::800 order 2048 key ht 800 bkt 0 terminal flowid not_in_hw\n\
            filter protocol all pref 1 flower chain 0 handle 0x1\n\
            filter protocol all pref 2 bpf chain 0 handle 0x1 direct-action not_in_hw bytecode '1,6 0 0 2'\n";
        let expected = [
            "BPF program cali_tc_preamble (id 12, tag 0a1b) at tc ingress of v0",
            "filter u32 at tc egress of v0",
            "filter flower at tc egress of v0",
            "BPF program bytecode at tc egress of v0",
        ];
        assert_eq!(words(&filters(text)), expected);
        let bare = filters(b"filter protocol all pref 1 matchall chain 0 handle 0x1\n");
        assert_eq!(words(&bare), ["filter matchall at tc ingress", "filter matchall at tc egress"]);
    }

    #[test]
    fn the_same_program_told_twice_counts_once() {
        let link: Value =
            serde_json::from_str(r#"{"xdp":{"mode":2,"prog":{"id":5,"tag":"0a1b","name":"guard"}}}"#).expect("JSON");
        let mut known = of_link(link.as_object().expect("an object"), "eth0");
        assert_eq!(words(&known), ["BPF program guard (id 5, tag 0a1b) at XDP of eth0"]);
        let net = br#"[{"xdp":[{"devname":"eth0","id":5}]}]"#;
        merge(&mut known, attached(&Arc::from("bpf.json"), net).value);
        assert_eq!(known.len(), 1);
    }
}
