//! `hepguard reach in|out PROTO/PORT`: who can reach a port, or be reached, as exact sets of addresses.

use std::io::Write;

use super::args::{Common, ReachArgs};
use super::exit::{CliError, Outcome};
use super::families::{self, Answer};
use crate::analysis::reach::HostFacts;
use crate::analysis::reach::conversation::Question;
use crate::analysis::reach::peers::{self, Wanted};
use crate::analysis::trace::blind_spots;
use crate::analysis::worlds::{is_failsafe_chain, next_restart, without_failsafes};
use crate::calico::failsafe;
use crate::packet::{CtState, Family};
use crate::report::reach::{self as report, Told, World};
use crate::ruleset::Ruleset;
use crate::snapshot::Snapshot;

/// Runs the command.
///
/// # Errors
/// A snapshot that cannot be opened is an input error; options that contradict each other a usage error.
pub fn run(common: &Common, args: &ReachArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    families::check_format(common)?;
    let families = families::asked(args.family.as_deref(), args.service.protocol, args.from)?;
    let snapshot = super::load::snapshot_with(common, &args.known)?;
    families::write(common, out, families, |family| {
        let told = told(&snapshot, args, family);
        let written = match common.format.as_str() {
            "text" => report::text(&snapshot.meanings(), &told, super::style(common), common.verbose),
            _ => report::line(&snapshot.meanings(), &told),
        };
        Ok(Answer { written, certain: told.is_certain() })
    })
}

fn told(snapshot: &Snapshot, args: &ReachArgs, family: Family) -> Told {
    let facts = HostFacts::new(&snapshot.host, family);
    let state = if args.state == "established" { CtState::ESTABLISHED } else { CtState::NEW };
    let outgoing = args.direction == "out";
    let question = Question { outgoing, protocol: args.service.protocol, port: args.service.port, state };
    let wanted = Wanted { from: args.from, explain: args.explain };
    let answer = |ruleset: &Ruleset, wanted| peers::answer(ruleset, &facts, &question, wanted);
    let mut restart = None;
    let mut worlds = vec![World { name: "now", answer: answer(&snapshot.ruleset, wanted) }];
    let tables = snapshot.ruleset.tables.iter().filter(|table| table.family.sees(family));
    if tables.flat_map(|table| &table.chains).any(|chain| is_failsafe_chain(&chain.name) && !chain.rules.is_empty()) {
        let ruleset = without_failsafes(&snapshot.ruleset);
        let wanted = Wanted { explain: false, ..wanted };
        worlds.push(World { name: "no-failsafe", answer: answer(&ruleset, wanted) });
        let lists = failsafe::compare(&snapshot.files, &snapshot.ruleset, &snapshot.host);
        match next_restart(&snapshot.ruleset, &lists, family) {
            Ok(None) => worlds.extend(worlds.first().cloned().map(|now| World { name: "felix-restart", ..now })),
            Ok(Some(ruleset)) => worlds.push(World { name: "felix-restart", answer: answer(&ruleset, wanted) }),
            Err(why) => restart = Some(why),
        }
    }
    let settings = snapshot.host.sysctls.is_some();
    Told { family, question, from: args.from, worlds, restart, settings, blind: blind_spots(snapshot, family) }
}
