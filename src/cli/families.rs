//! Commands that answer once for each address family: which families, and the answers one after the other.

use std::io::Write;

use super::args::Common;
use super::exit::{CliError, Outcome};
use crate::packet::{Family, Prefix, Protocol};

/// An answer in the format asked for.
pub(super) struct Answer {
    /// A text, or one line of JSON.
    pub(super) written: String,
    /// Whether everything was decided.
    pub(super) certain: bool,
}

/// Text, or JSON: one object a line.
pub(super) fn check_format(common: &Common) -> Result<(), CliError> {
    match common.format.as_str() {
        "text" | "json" | "jsonl" => Ok(()),
        other => Err(super::unknown_format(other, &["text", "json"])),
    }
}

/// The families asked for: those of `--family`, of `--from`, and of the protocol.
pub(super) fn asked(named: Option<&str>, protocol: Protocol, from: Option<Prefix>) -> Result<Vec<Family>, CliError> {
    let fits = |family: &Family| {
        let ipv4 = *family == Family::Ipv4;
        let other = if ipv4 { Protocol::ICMPV6 } else { Protocol::ICMP };
        named.is_none_or(|name| name == family.name())
            && from.is_none_or(|prefix| prefix.is_ipv4() == ipv4)
            && protocol != other
    };
    let families: Vec<Family> = [Family::Ipv4, Family::Ipv6].into_iter().filter(fits).collect();
    if families.is_empty() {
        let options = if from.is_some() { "--family, --from" } else { "--family" };
        let text = format!("{options} and the protocol are of different address families: leave one out");
        return Err(CliError::Usage(text));
    }
    Ok(families)
}

/// Writes each answer as soon as it is there.
pub(super) fn write<T>(
    common: &Common,
    out: &mut dyn Write,
    asked: impl IntoIterator<Item = T>,
    answer: impl Fn(T) -> Result<Answer, CliError>,
) -> Result<Outcome, CliError> {
    let mut outcome = Outcome::CLEAN;
    for (number, one) in asked.into_iter().enumerate() {
        let Answer { written, certain } = answer(one)?;
        outcome.incomplete |= !certain;
        match common.format.as_str() {
            "text" if number > 0 => write!(out, "\n{written}")?,
            "text" => write!(out, "{written}")?,
            _ => writeln!(out, "{written}")?,
        }
    }
    Ok(outcome)
}
