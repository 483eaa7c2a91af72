//! `hepguard denies --recommend`: a staged policy from what the logs and the host show.

use std::io::{self, Write};

use super::args::{Common, DeniesArgs};
use super::exit::CliError;
use super::log_reader::{FileResult, Log, scan};
use super::progress;
use crate::analysis::recommend::{Observed, policy};
use crate::logs::event::{Action, Event};
use crate::logs::query::Filter;
use crate::logs::tally::{Origin, Query, Sink};

/// What one thread sees.
#[derive(Default)]
struct Seen {
    observed: Observed,
    host: Option<Vec<u8>>,
}

impl Sink for Seen {
    fn event(&mut self, event: &Event<'_>, _: Origin<'_>) {
        self.observed.add(event);
        if self.host.is_none() {
            self.host = event.host.map(<[u8]>::to_vec);
        }
    }
}

/// Prints the policy. Without a snapshot and without a log named, it is of this host; gives what each log gave.
///
/// # Errors
/// No snapshot can be had where one is asked for, or the policy cannot be written.
pub(super) fn run(
    common: &Common,
    args: &DeniesArgs,
    query: &Query,
    logs: &[Option<Log>],
    out: &mut dyn Write,
) -> Result<Vec<FileResult>, CliError> {
    let mut filter: Filter = query.filter.clone();
    if args.action.is_empty() {
        filter.action = vec![Action::Allow, Action::Deny, Action::Drop, Action::Reject];
    }
    let query = Query { filter, ..query.clone() };
    let total = logs.iter().flatten().map(Log::size).sum();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(16);
    let (seen, files) = progress::shown(common.quiet, total, |done| scan(logs, &query, threads, done, Seen::default));
    let mut all = Seen::default();
    for one in seen {
        all.observed.merge(one.observed);
        all.host = all.host.or(one.host);
    }
    // a log that is named may be of any host
    let of_this_host = common.snapshot.is_some() || args.files.is_empty();
    let snapshot = of_this_host.then(|| super::load::snapshot(common)).transpose()?;
    let host = all.host.map(|host| String::from_utf8_lossy(&host).into_owned());
    out.write_all(policy(&all.observed, snapshot.as_ref(), host.as_deref()).as_bytes())?;
    for (number, file) in files.iter().enumerate() {
        let broken = file.counts.malformed + file.counts.truncated;
        if broken > 0 && !common.quiet {
            let path = args.files.get(number).map_or("-".into(), |path| path.display().to_string());
            let path = crate::diagnostic::printable(&path);
            let _ = writeln!(
                io::stderr(),
                "hepguard: {path}: {broken} lines are broken, and what they tell is not in the policy"
            );
        }
    }
    Ok(files)
}
