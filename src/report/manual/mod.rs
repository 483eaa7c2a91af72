//! Man pages: of the commands (from the definitions of the command line), of the configuration (from the shipped example) and
//! of the findings (from their `explain` pages). `roff` escapes what it is given.

mod command;
mod config;
mod findings;

use clap_mangen::roff::{Inline, Roff, bold, roman};

pub use command::pages as commands;
pub use config::page as configuration;
pub use findings::page as findings;

/// A page: its file name, `hepguard-audit.1`, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manual {
    /// Name of the page, a dot, its section.
    pub file: String,
    /// For `man`.
    pub text: String,
}

/// What stands in the foot of every page.
#[derive(Clone, Debug, Default)]
pub struct Edition {
    /// Version of hepguard.
    pub version: String,
    /// Day of the page, `2026-11-29`; empty when nobody tells, so that the same source gives the same page.
    pub date: String,
}

impl Edition {
    /// A page with its title line.
    fn begin(&self, title: &str, section: &str, about: &str) -> Roff {
        let source = format!("hepguard {}", self.version);
        let mut roff = Roff::new();
        roff.control("TH", [title, section, &self.date, &source, "hepguard"]);
        roff.control("SH", ["NAME"]).text([roman(format!("{title} - {about}"))]);
        roff
    }
}

/// Lines kept as they are, indented.
fn verbatim<'a>(roff: &mut Roff, lines: impl IntoIterator<Item = &'a str>) {
    roff.control("PP", []).control("RS", ["4"]).control("nf", []);
    for line in lines {
        roff.text([roman(line)]);
    }
    roff.control("fi", []).control("RE", []);
}

/// Text with `code` in bold.
fn prose(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate().filter(|(_, part)| !part.is_empty());
    parts.map(|(at, part)| if at % 2 == 1 { bold(part) } else { roman(part) }).collect()
}

/// The last section: where else to look.
fn see_also(roff: &mut Roff, pages: &[&str]) {
    roff.control("SH", ["SEE ALSO"]);
    let last = pages.len().saturating_sub(1);
    let mut line = Vec::new();
    for (at, page) in pages.iter().enumerate() {
        let (name, section) = page.rsplit_once('.').unwrap_or((page, "1"));
        line.push(bold(name));
        line.push(roman(format!("({section}){}", if at == last { "" } else { ", " })));
    }
    roff.text(line);
}

#[cfg(test)]
mod tests;
