//! `hepguard matrix PROTO/PORT`: who may open a connection to whom, as the fewest classes of addresses.

use std::io::Write;

use super::args::{Common, MatrixArgs};
use super::exit::{CliError, Outcome};
use super::families::{self, Answer};
use crate::analysis::matrix::{self, Bound, Query};
use crate::analysis::reach::{HostFacts, Way};
use crate::analysis::trace::blind_spots;
use crate::packet::text::read_interface;
use crate::packet::{Family, Hook};
use crate::report::matrix::{self as report, Told};
use crate::ruleset::{Ruleset, interface_number};
use crate::snapshot::Snapshot;

/// The first port of the kernel's default range for clients (`net.ipv4.ip_local_port_range`).
const CLIENT_PORT: u16 = 32_768;

/// Runs the command.
///
/// # Errors
/// A snapshot that cannot be opened is an input error; options that contradict each other, and a chain that is not there or
/// there more than once, usage errors.
pub fn run(common: &Common, args: &MatrixArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    families::check_format(common)?;
    let families = families::asked(args.family.as_deref(), args.service.protocol, None)?;
    let query = query(args)?;
    let snapshot = super::load::snapshot(common)?;
    let asked = ways(&snapshot.ruleset, args, &families, query.hook)?;
    families::write(common, out, asked, |(family, way, hook)| {
        check_links(args, hook)?;
        let told = told(&snapshot, args, family, Query { way, hook, ..query });
        let written = match common.format.as_str() {
            "text" => report::text(&snapshot.ruleset, &told, super::style(common), common.verbose),
            _ => report::line(&snapshot.meanings(), &told),
        };
        Ok(Answer { written, certain: told.is_certain() })
    })
}

/// The query the options ask, at a hook.
fn query(args: &MatrixArgs) -> Result<Query, CliError> {
    if args.sport.is_some() && !args.service.protocol.has_ports() {
        return Err(CliError::Usage(format!("{} has no ports: leave --sport out", args.service.protocol)));
    }
    let number = |name: &Option<String>| {
        let name = name.as_deref().map(read_interface).transpose();
        name.map(|name| name.map(|name| interface_number(name.as_bytes())))
    };
    let usage = |error: crate::packet::text::PacketError| CliError::Usage(error.to_string());
    let hook = args.hook.as_deref().and_then(Hook::from_name).unwrap_or(Hook::Forward);
    Ok(Query {
        protocol: args.service.protocol,
        port: args.service.port,
        source_port: args.sport.unwrap_or(CLIENT_PORT),
        way: Way::At(hook),
        hook,
        iif: number(&args.iif).map_err(usage)?,
        oif: number(&args.oif).map_err(usage)?,
        bound: if args.bound == "must" { Bound::Must } else { Bound::May },
    })
}

/// Packets at input are not on their way out, and those at output did not come in.
fn check_links(args: &MatrixArgs, hook: Hook) -> Result<(), CliError> {
    let wrong = match hook {
        Hook::Output if args.iif.is_some() => "-i",
        Hook::Input | Hook::Prerouting if args.oif.is_some() => "-o",
        _ => return Ok(()),
    };
    Err(CliError::Usage(format!("packets at {} have no such interface: leave {wrong} out", hook.name())))
}

type Asked = Vec<(Family, Way, Hook)>;

/// Which rules to judge, for each family: those of the hook, or the chain named.
fn ways(ruleset: &Ruleset, args: &MatrixArgs, families: &[Family], hook: Hook) -> Result<Asked, CliError> {
    let Some(name) = &args.chain else {
        return Ok(families.iter().map(|family| (*family, Way::At(hook), hook)).collect());
    };
    let mut asked = Vec::new();
    for family in families {
        let found = chains(ruleset, name, args.table.as_deref(), *family);
        let [(table, chain)] = *found else {
            if found.is_empty() {
                continue;
            }
            let place = |(table, _): &(usize, usize)| {
                ruleset.tables.get(*table).map(|t| format!("{} {}", t.backend.name(), t.name))
            };
            let places: Vec<String> = found.iter().filter_map(place).collect();
            return Err(CliError::Usage(format!(
                "chain {name} is in several tables ({}): say which with --table",
                places.join(", ")
            )));
        };
        let base = ruleset.tables.get(table).and_then(|t| t.chains.get(chain)).and_then(|c| c.base.as_ref());
        let at = base.map_or(hook, |base| base.hook);
        if matches!(at, Hook::Ingress | Hook::Egress) || args.hook.is_some() && at != hook {
            return Err(CliError::Usage(format!("chain {name} hangs at {}, not at {}", at.name(), hook.name())));
        }
        asked.push((*family, Way::Chain { table, chain, hook: at }, at));
    }
    if asked.is_empty() {
        let of = args.table.as_ref().map(|table| format!(" in table {table}")).unwrap_or_default();
        return Err(CliError::Usage(format!(
            "there is no chain {name}{of}: names are as iptables-save and nft print them"
        )));
    }
    Ok(asked)
}

/// Chains of that name; a table is named alone, or behind its backend.
fn chains(ruleset: &Ruleset, name: &str, table: Option<&str>, family: Family) -> Vec<(usize, usize)> {
    let wanted = |candidate: &crate::ruleset::Table| {
        let full = || format!("{} {}", candidate.backend.name(), candidate.name);
        candidate.family.sees(family) && table.is_none_or(|table| table == &*candidate.name || table == full())
    };
    let tables = ruleset.tables.iter().enumerate().filter(|(_, candidate)| wanted(candidate));
    let place = |(number, candidate): (usize, &crate::ruleset::Table)| {
        let chain = candidate.chains.iter().position(|chain| &*chain.name == name)?;
        Some((number, chain))
    };
    tables.filter_map(place).collect()
}

fn told(snapshot: &Snapshot, args: &MatrixArgs, family: Family, query: Query) -> Told {
    let facts = HostFacts::new(&snapshot.host, family);
    let beside = match query.way {
        Way::At(hook) => matrix::beside(&snapshot.ruleset, family, hook),
        _ => Vec::new(),
    };
    Told {
        family,
        query,
        iif: args.iif.clone(),
        oif: args.oif.clone(),
        answer: matrix::answer(&snapshot.ruleset, &facts, &query),
        blind: blind_spots(snapshot, family),
        beside,
    }
}
