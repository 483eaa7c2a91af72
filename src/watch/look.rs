//! One look at the host, in a process of its own: compare what sends no notice, and when something changed collect and audit.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::audit::audit;
use crate::audit::context::is_felix_chain;
use crate::calico::settings::process::is_felix_cmdline;
use crate::collect;
use crate::config::{self, Collector};
use crate::monitor::look::{Judged, Look, Part};
use crate::ruleset::{Backend, Effect, Ruleset, Step};
use crate::snapshot::{self, Snapshot};
use crate::system::{Real, System as _, ipsets};

/// Time for one tool.
const LIMIT: Duration = Duration::from_secs(30);

/// What a look is asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Task {
    /// Judge whether or not something changed.
    pub(super) judge: bool,
    /// Parts as they were.
    pub(super) parts: BTreeMap<String, Part>,
    /// `[[protect]]` entries, as a configuration.
    pub(super) protect: String,
    /// Collectors of `[[forward]]` entries.
    pub(super) outputs: Vec<Collector>,
}

/// Reads the task from standard input and writes the look to standard output.
///
/// # Errors
/// No task, or nobody listens.
pub fn run() -> io::Result<()> {
    super::rights::end_with_daemon()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let task: Task = serde_json::from_str(&line)?;
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &look(&task))?;
    writeln!(out)?;
    out.flush()
}

fn look(task: &Task) -> Look {
    let began = Instant::now();
    let mut parts = compare(&task.parts);
    let same = parts.len() == task.parts.len()
        && parts.iter().all(|(name, part)| task.parts.get(name).is_some_and(|before| before.digest == part.digest));
    let judged = (task.judge || !same).then(|| judge(task, &mut parts));
    Look { parts, judged, took: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX) }
}

/// Parts that can be compared without judging.
fn compare(before: &BTreeMap<String, Part>) -> BTreeMap<String, Part> {
    let mut parts = BTreeMap::new();
    let legacy = [
        ("iptables-legacy ipv4", "/proc/net/ip_tables_names", "iptables-legacy-save"),
        ("iptables-legacy ipv6", "/proc/net/ip6_tables_names", "ip6tables-legacy-save"),
    ];
    for (name, registered, tool) in legacy {
        // asking where none is registered would register them
        if Real.read(Path::new(registered)).is_ok_and(|names| !names.is_empty())
            && let Ok(output) = Real.run(tool, &["-c"], LIMIT)
            && output.status == Some(0)
        {
            parts.insert(name.to_owned(), saved(&output.stdout));
        }
    }
    if !collect::surely_not_loaded(&Real, "nf_tables")
        && let Ok(generation) = Real.nf_generation()
    {
        let digest = generation.to_string();
        let known = before.get("nf_tables").filter(|part| part.digest == digest).cloned();
        parts.insert("nf_tables".to_owned(), known.unwrap_or(Part { digest, ..Part::default() }));
    }
    if !collect::surely_not_loaded(&Real, "ip_set")
        && let Ok(sets) = ipsets()
    {
        let part = Part { digest: format!("{:016x}", sets.digest), size: sets.members, ..Part::default() };
        parts.insert("ipset".to_owned(), part);
    }
    parts
}

/// What `iptables-save -c` printed, without its counters.
fn saved(text: &[u8]) -> Part {
    let mut part = Part { logged: Some(0), ..Part::default() };
    let mut hasher = Sha256::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#")) {
        let (counters, rule) = counted(line);
        hasher.update(rule);
        hasher.update(b"\n");
        if rule.starts_with(b"-A ") {
            part.size += 1;
            part.felix += u64::from(rule.starts_with(b"-A cali-"));
            let has = |words: &str| memchr::memmem::find(rule, words.as_bytes()).is_some();
            if has("-j LOG") || has("--nflog-prefix \"D") || has("--nflog-prefix D") {
                part.logged = part.logged.map(|sum| sum.saturating_add(counters));
            }
        }
    }
    part.digest = hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    part
}

/// Packets and the line without counters: `[3:180] -A …`, `:INPUT ACCEPT [3:180]`.
fn counted(line: &[u8]) -> (u64, &[u8]) {
    if line.starts_with(b":") {
        let end = memchr::memrchr(b'[', line).unwrap_or(line.len());
        return (0, line.get(..end).unwrap_or(line));
    }
    let Some(inside) = line.strip_prefix(b"[") else { return (0, line) };
    let Some(end) = memchr::memchr(b']', inside) else { return (0, line) };
    let (numbers, rest) = inside.split_at(end);
    let packets = numbers.split(|byte| *byte == b':').next().unwrap_or_default();
    let packets = std::str::from_utf8(packets).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    (packets, rest.get(2..).unwrap_or_default())
}

fn judge(task: &Task, parts: &mut BTreeMap<String, Part>) -> Judged {
    let read = config::read(&Arc::from("the daemon's configuration"), task.protect.as_bytes());
    let protect = read.map(|config| config.protect).unwrap_or_default();
    let snapshot = Snapshot { protect, outputs: task.outputs.clone(), ..snapshot::read(collect::live(&Real)) };
    let audit = audit(&snapshot);
    let (rules, felix_rules, logged) = counts(&snapshot.ruleset, |_| true);
    if let Some(part) = parts.get_mut("nf_tables") {
        let of = |backend| matches!(backend, Backend::Nft | Backend::IptablesNft);
        let (size, felix, logged) = counts(&snapshot.ruleset, of);
        (part.size, part.felix, part.logged) = (size, felix, logged);
    }
    let members = snapshot.ruleset.ipsets.iter().map(|set| set.elements.len());
    let refused = audit.findings.iter().filter(|finding| finding.code == "HG201").count();
    let (felix, processes) = felix_process();
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    Judged {
        findings: audit.findings.iter().filter_map(|finding| serde_json::to_value(finding).ok()).collect(),
        unreadable: audit.unreadable.iter().map(|one| one.input.clone()).collect(),
        failsafe_in: audit.failsafe.inbound,
        failsafe_out: audit.failsafe.outbound,
        felix,
        processes,
        felix_rules,
        rules,
        members: number(members.sum()),
        logged,
        refused: number(refused),
    }
}

/// Rules, those in Felix's chains, and packets counted by rules that log denies.
fn counts(ruleset: &Ruleset, of: impl Fn(Backend) -> bool) -> (u64, u64, Option<u64>) {
    let (mut rules, mut felix, mut logged) = (0_u64, 0_u64, None);
    for table in ruleset.tables.iter().filter(|table| of(table.backend)) {
        for chain in &table.chains {
            let here = u64::try_from(chain.rules.len()).unwrap_or(0);
            rules += here;
            if is_felix_chain(&chain.name) {
                felix += here;
            }
            for rule in &chain.rules {
                let logs = rule.steps.iter().any(|step| match step {
                    // Felix's prefixes of denies begin with D, those of others with A or P
                    Step::Effect(Effect::Log { prefix, group: Some(_), .. }) => {
                        prefix.as_deref().is_some_and(|prefix| prefix.starts_with('D'))
                    }
                    Step::Effect(Effect::Log { .. }) => true,
                    _ => false,
                });
                if let Some(counters) = rule.counters.as_ref().filter(|_| logs) {
                    logged = Some(logged.unwrap_or(0_u64).saturating_add(counters.packets));
                }
            }
        }
    }
    (rules, felix, logged)
}

/// The Felix of this network namespace, and whether processes of others can be seen.
fn felix_process() -> (Option<u32>, bool) {
    let here = Real.link(Path::new("/proc/self/ns/net")).ok();
    let folders = Real.list(Path::new("/proc")).unwrap_or_default();
    let visible = Path::new("/proc/1/cmdline").exists();
    let pids = folders.iter().filter_map(|path| Some((path, path.file_name()?.to_str()?.parse::<u32>().ok()?)));
    let felix = pids.filter(|(path, _)| Real.read(&path.join("cmdline")).is_ok_and(|line| is_felix_cmdline(&line)));
    let mut own = felix.filter(|(path, _)| {
        let there = Real.link(&path.join("ns/net")).ok();
        here.is_none() || there.is_none() || here == there
    });
    (own.next().map(|(_, pid)| pid), visible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_no_change_and_rules_are() {
        let text = |packets: u64, port: u16| {
            format!(
                "# Generated by x on {packets}\n*filter\n:INPUT ACCEPT [{packets}:9]\n[{packets}:60] -A INPUT -p tcp --dport {port} -j LOG\n\
                 [7:60] -A cali-INPUT -j NFLOG --nflog-prefix \"DPI0|x\"\n[5:60] -A cali-INPUT -j NFLOG --nflog-prefix \"API0|x\"\nCOMMIT\n"
            )
        };
        let one = saved(text(1, 22).as_bytes());
        assert_eq!((one.size, one.felix, one.logged), (3, 2, Some(8)));
        assert_eq!(saved(text(500, 22).as_bytes()).digest, one.digest);
        assert_ne!(saved(text(1, 23).as_bytes()).digest, one.digest);
        for odd in ["[", "[x] -A", "[1:2]", ":[", ""] {
            saved(odd.as_bytes());
        }
    }
}
