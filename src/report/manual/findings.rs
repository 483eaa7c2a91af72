//! `hepguard-findings(7)`: every finding, as `hepguard explain` tells it.

use clap_mangen::roff::{Roff, bold, italic, roman};

use super::{Edition, Manual, prose, see_also};
use crate::report::explain::Page;

/// What the first digit of a code says.
const FAMILIES: [(&str, &str); 8] = [
    ("HG1xx", "failsafe lists"),
    ("HG2xx", "lockout and lost access"),
    ("HG3xx", "integrity and drift: chains edited by hand, foreign rules ahead of Felix, mixed backends"),
    ("HG4xx", "Calico's policies by themselves"),
    ("HG5xx", "what logs and the daemon say"),
    ("HG6xx", "exposure: more open than intended"),
    ("HG7xx", "reboot and persistence"),
    ("HG9xx", "blind spots of the audit itself"),
];

/// The page, of `pages` in the order of their codes.
#[must_use]
pub fn page(pages: &[Page], edition: &Edition) -> Manual {
    let mut roff = edition.begin("hepguard-findings", "7", "what hepguard finds, why it matters, how it is fixed");
    roff.control("SH", ["DESCRIPTION"]).text(prose(
        "Each finding has a code and a name for ever, a severity (`critical`, `high`, `medium`, `low`, `info`; here the usual \
         one, single findings may differ) and the moment when it bites: `now`, at the next `reconnect`, at a `renewal` of a \
         lease, cache or credential, at the next `felix-restart`, or at the next `reboot`.",
    ));
    for (codes, what) in FAMILIES {
        roff.control("TP", []).text([bold(codes)]).text([roman(what)]);
    }
    for (codes, what) in FAMILIES {
        let family = codes.trim_end_matches('x');
        let mut of_it = pages.iter().filter(|page| page.code.starts_with(family)).peekable();
        if of_it.peek().is_some() {
            let title = what.split(':').next().unwrap_or(what).to_uppercase();
            roff.control("SH", [format!("{codes}: {title}").as_str()]);
        }
        of_it.for_each(|page| finding(&mut roff, page));
    }
    see_also(
        &mut roff,
        &["hepguard.1", "hepguard-audit.1", "hepguard-explain.1", "hepguard-lint.1", "hepguard-plan.1"],
    );
    Manual { file: "hepguard-findings.7".to_owned(), text: roff.render() }
}

fn finding(roff: &mut Roff, page: &Page) {
    roff.control("SS", [format!("{} {}", page.code, page.name).as_str()]);
    roff.text([italic(page.severity.name()), roman(format!(": {}", page.summary))]);
    let mut paragraph = String::new();
    let flush = |paragraph: &mut String, roff: &mut Roff| {
        match paragraph.strip_prefix("- ") {
            Some(item) => drop(roff.control("IP", ["\\(bu", "2"]).text(prose(item))),
            None if !paragraph.is_empty() => drop(roff.control("PP", []).text(prose(paragraph))),
            None => {}
        }
        paragraph.clear();
    };
    for line in page.lines.iter().map(|line| line.trim()) {
        if line.starts_with("# ") {
            continue;
        }
        if let Some(heading) = line.strip_prefix("## ") {
            flush(&mut paragraph, roff);
            roff.control("PP", []).text([bold(heading)]);
            continue;
        }
        if line.is_empty() || line.starts_with("- ") {
            flush(&mut paragraph, roff);
        }
        paragraph.push_str(if paragraph.is_empty() || line.is_empty() { "" } else { " " });
        paragraph.push_str(line);
    }
    flush(&mut paragraph, roff);
}
