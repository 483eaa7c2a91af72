//! Rule files in the form of iptables' own test suite (`extensions/*.t`): `*table`, `:CHAIN,CHAIN`, `@command` to be run
//! first, and `rule;as saved;OK` with `=` for "saved as written". A line without semicolons is a rule that is fine as it is.

use std::path::Path;

use hepguard::packet::Family;

/// One rule in one chain.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// File and line it stands in.
    pub(crate) place: String,
    /// Its table.
    pub(crate) table: String,
    /// Its chain.
    pub(crate) chain: String,
    /// Its words behind `-A CHAIN`.
    pub(crate) rule: String,
    /// The tool takes it.
    pub(crate) good: bool,
}

/// A file's rules for one family.
#[derive(Debug)]
pub(crate) struct Suite {
    /// The file's name.
    pub(crate) name: String,
    /// IPv4 or IPv6.
    pub(crate) family: Family,
    /// Commands that must be run before the rules are loaded.
    pub(crate) commands: Vec<String>,
    /// Its rules.
    pub(crate) cases: Vec<Case>,
}

/// Which families a file is for, from its name: `libipt_`, `libip6t_`, `libxt_`; files of other tools have none.
fn families(name: &str) -> &'static [Family] {
    match name {
        _ if name.starts_with("libarpt_") || name.starts_with("libebt_") => &[],
        _ if name.starts_with("libipt_") || name.starts_with("ipv4") => &[Family::Ipv4],
        _ if name.starts_with("libip6t_") || name.contains("ipv6") => &[Family::Ipv6],
        _ => &[Family::Ipv4, Family::Ipv6],
    }
}

/// The suites of one file.
pub(crate) fn read(path: &Path) -> Vec<Suite> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    families(&name).iter().map(|family| suite(&name, *family, &text)).collect()
}

fn suite(name: &str, family: Family, text: &str) -> Suite {
    let mut suite = Suite { name: name.to_owned(), family, commands: Vec::new(), cases: Vec::new() };
    let (mut table, mut chains) = ("filter".to_owned(), vec!["INPUT".to_owned()]);
    for (number, line) in (1..).zip(text.lines()) {
        match line.as_bytes().first() {
            None | Some(b'#') => {}
            Some(b'*') => table = line[1..].trim().to_owned(),
            Some(b':') => chains = line[1..].trim().split(',').map(str::to_owned).collect(),
            Some(b'@' | b'%') => suite.commands.push(line[1..].trim().to_owned()),
            Some(_) => {
                let mut parts = line.split(';');
                let rule = parts.next().unwrap_or_default().trim();
                let good = parts.nth(1).is_none_or(|result| result.trim() == "OK");
                suite.cases.extend(chains.iter().map(|chain| Case {
                    place: format!("{name}:{number}"),
                    table: table.clone(),
                    chain: chain.clone(),
                    rule: rule.to_owned(),
                    good,
                }));
            }
        }
    }
    suite
}

/// A listing of `cases`, as `iptables-restore` takes it.
pub(crate) fn listing(cases: &[&Case]) -> String {
    let mut tables: Vec<&str> = cases.iter().map(|case| case.table.as_str()).collect();
    tables.sort_unstable();
    tables.dedup();
    let mut text = String::new();
    for table in tables {
        text += &format!("*{table}\n");
        let of_table = || cases.iter().filter(|case| case.table == table);
        let mut chains: Vec<&str> = of_table().map(|case| case.chain.as_str()).collect();
        chains.sort_unstable();
        chains.dedup();
        for chain in chains {
            text += &format!(":{chain} {} [0:0]\n", if is_builtin(chain) { "ACCEPT" } else { "-" });
        }
        for case in of_table() {
            text += &format!("-A {} {}\n", case.chain, case.rule);
        }
        text += "COMMIT\n";
    }
    text
}

fn is_builtin(chain: &str) -> bool {
    ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"].contains(&chain)
}
