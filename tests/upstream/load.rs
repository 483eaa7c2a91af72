//! Rules through the real tool and the kernel, through reader and printer, and back.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use hepguard::diagnostic::Level;
use hepguard::packet::Family;
use hepguard::ruleset::print::iptables as print;
use hepguard::ruleset::readers::iptables_save::read;
use hepguard::ruleset::{Backend, Table};

use crate::suite::{Case, Suite, listing};

/// A variant of the tool.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    Legacy,
    Nft,
}

impl Variant {
    pub(crate) const ALL: [Self; 2] = [Self::Legacy, Self::Nft];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Legacy => "iptables-legacy",
            Self::Nft => "iptables-nft",
        }
    }

    fn backend(self) -> Backend {
        match self {
            Self::Legacy => Backend::IptablesLegacy,
            Self::Nft => Backend::IptablesNft,
        }
    }

    fn tool(self, family: Family, what: &str) -> String {
        let six = if family == Family::Ipv6 { "6" } else { "" };
        format!("ip{six}tables-{}-{what}", if self == Self::Legacy { "legacy" } else { "nft" })
    }
}

/// What became of a suite.
#[derive(Default)]
pub(crate) struct Done {
    /// Rules the kernel took.
    pub(crate) taken: usize,
    /// Of these, rules with an opaque part.
    pub(crate) opaque: usize,
    /// Rules it refused, each with the tool's words.
    pub(crate) refused: Vec<String>,
    /// What is wrong.
    pub(crate) wrong: Vec<String>,
}

/// Runs a program of `HEPGUARD_TOOLS_ROOT`, or the installed one, in the calling thread's namespace.
fn run(program: &str, arguments: &[&str], input: &str) -> Result<Vec<u8>, String> {
    let mut command = Command::new("timeout");
    command.arg("60");
    if let Some(root) = std::env::var_os("HEPGUARD_TOOLS_ROOT") {
        command.arg("chroot").arg(root);
    }
    command.arg(program).args(arguments).env("LC_ALL", "C").env("TZ", "UTC");
    command.env("XTABLES_LOCKFILE", format!("/tmp/hepguard-upstream-{}.lock", std::process::id()));
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().map_err(|error| format!("{program}: {error}"))?;
    let mut stdin = child.stdin.take().ok_or("no stdin")?;
    let output = std::thread::scope(|scope| {
        // a tool that fails early closes its end; its status says so better than the broken pipe
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        child.wait_with_output()
    });
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let told = String::from_utf8_lossy(&output.stderr);
    Err(told.lines().next().unwrap_or("no reason given").to_owned())
}

/// The rules of `cases` the kernel takes; the others with the tool's reason in `refused`.
fn taken<'c>(tool: &str, cases: Vec<&'c Case>, refused: &mut Vec<String>) -> Vec<&'c Case> {
    if cases.is_empty() {
        return cases;
    }
    let (text, half) = (listing(&cases), cases.len() / 2);
    match run(tool, &[], &text) {
        Ok(_) => cases,
        Err(reason) if half == 0 => {
            let told = cases.iter().map(|case| format!("{} {} {}: {reason}", case.place, case.chain, case.rule));
            refused.extend(told);
            Vec::new()
        }
        Err(_) => {
            let (left, right) = cases.split_at(half);
            let mut good = taken(tool, left.to_vec(), refused);
            good.extend(taken(tool, right.to_vec(), refused));
            good
        }
    }
}

/// Listing lines without comments.
fn lines(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// Loads, saves, reads, prints, loads, saves.
pub(crate) fn round_trip(suite: &Suite, variant: Variant) -> Result<Done, String> {
    let mut done = Done::default();
    let (restore, save) = (variant.tool(suite.family, "restore"), variant.tool(suite.family, "save"));
    for command in &suite.commands {
        let mut words = command.split_ascii_whitespace();
        if let Some(program) = words.next() {
            // without it the rules that need it are refused, and told
            let _ = run(program, &words.collect::<Vec<_>>(), "");
        }
    }
    let good: Vec<&Case> = suite.cases.iter().filter(|case| case.good).collect();
    let good = taken(&restore, good, &mut done.refused);
    let mut tables: Vec<&str> = good.iter().map(|case| case.table.as_str()).collect();
    tables.sort_unstable();
    tables.dedup();
    for table in tables {
        let cases: Vec<&Case> = good.iter().copied().filter(|case| case.table == table).collect();
        run(&restore, &[], &listing(&cases))?;
        done.taken += cases.len();
        let saved = run(&save, &["-t", table], "")?;
        let parsed = read(&Arc::from(suite.name.as_str()), &saved, variant.backend(), suite.family);
        let told = parsed.diagnostics.iter().filter(|remark| remark.level > Level::Note);
        done.wrong.extend(told.map(|remark| format!("{} {}: {remark}", variant.name(), suite.family)));
        done.opaque += opaque(&parsed.value);
        let Some(printed) = parsed.value.iter().map(print::table).collect::<Option<String>>() else {
            done.wrong.push(format!("{} {}: iptables has no words for it", suite.family, suite.name));
            continue;
        };
        let again = run(&restore, &[], &printed).and_then(|_| run(&save, &["-t", table], ""));
        match again {
            Ok(again) => done.wrong.extend(difference(&lines(&saved), &lines(&again), suite, variant)),
            Err(error) => done.wrong.push(format!("{} {}: {error}\n{printed}", suite.family, suite.name)),
        }
        run(&restore, &[], &format!("*{table}\nCOMMIT\n"))?;
    }
    Ok(done)
}

fn opaque(tables: &[Table]) -> usize {
    let rules = tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
    rules.filter(|rule| !rule.opaque_parts().is_empty()).count()
}

/// Two spellings of one condition: what the tool saved, and what we print for it.
const SPELLINGS: [(&str, &str); 8] = [
    ("-m state --state ", "-m conntrack --ctstate "),
    ("-j NOTRACK", "-j CT --notrack"),
    ("-m addrtype --src-type UNSPEC", "-s ::/128"),
    ("-m addrtype --dst-type UNSPEC", "-d ::/128"),
    // a match without a condition
    ("-p tcp -m tcp", "-p tcp"),
    ("-p udp -m udp", "-p udp"),
    ("-p dccp -m dccp", "-p dccp"),
    // the tool saves every index so, and loads it as index 0
    ("-p ipcomp -m ipcomp", "-p ipcomp -m ipcomp --ipcompspi 0"),
];

/// Leaves out each `-m` that names the match named last.
fn one_breath(line: &str) -> String {
    let mut parts = line.split(" -m ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    let mut last = "";
    for part in parts {
        let (name, rest) = part.split_once(' ').unwrap_or((part, ""));
        if name != last {
            out += &format!(" -m {name}");
        }
        if !rest.is_empty() {
            out += &format!(" {rest}");
        }
        last = name;
    }
    out
}

/// Whether two lines of listings are the same rule.
fn same(before: &str, after: &str) -> bool {
    // a comment may stand anywhere, and options of one match may be told in one breath
    let bare = |line: &str| one_breath(&hepguard::ruleset::without_comments(line));
    let is_spelling =
        |(saved, printed): &(&str, &str)| before.ends_with(saved) && before.replace(saved, printed) == after;
    before == after
        || bare(before) == bare(after)
        || SPELLINGS.iter().any(is_spelling)
        || SPELLINGS.iter().take(4).any(|(saved, printed)| before.replace(saved, printed) == after)
        // type 255 is every type, whatever the code
        || [" any", " 255/255"].iter().any(|kind| {
            before.strip_suffix(kind).and_then(|line| line.strip_suffix(" -m icmp --icmp-type")) == Some(after)
        })
}

/// Lines that are not the same.
fn difference(before: &[String], after: &[String], suite: &Suite, variant: Variant) -> Vec<String> {
    let place = format!("{} {} {}", variant.name(), suite.family, suite.name);
    if before.len() != after.len() {
        return vec![format!("{place}: {} lines became {}", before.len(), after.len())];
    }
    let pairs = before.iter().zip(after).filter(|(before, after)| !same(before, after));
    pairs.map(|(before, after)| format!("{place}:\n  {before}\n  {after}")).collect()
}
