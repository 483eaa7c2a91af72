//! `hepguard.toml(5)`, from the commented example that is shipped: a test holds that one against the defaults.

use clap_mangen::roff::{Roff, bold, italic, roman};

use super::{Edition, Manual, see_also, verbatim};

/// The shipped example.
const EXAMPLE: &str = include_str!("../../../packaging/hepguard.toml");

/// The page.
#[must_use]
pub fn page(edition: &Edition) -> Manual {
    let mut roff = edition.begin("hepguard.toml", "5", "configuration of hepguard");
    roff.control("SH", ["SYNOPSIS"]).text([bold("/etc/hepguard/hepguard.toml")]);
    roff.control("SH", ["DESCRIPTION"]);
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    // the first line is the file's own name
    for block in lines.get(1..).unwrap_or_default().split(|line| ["", "#"].contains(line)) {
        self::block(&mut roff, block);
    }
    see_also(&mut roff, &["hepguard.1", "hepguard-config.1", "hepguard-watch.1", "hepguard-forward.1"]);
    Manual { file: "hepguard.toml.5".to_owned(), text: roff.render() }
}

/// A paragraph, a key with what is said before it, a section's heading, or lines of an example.
fn block(roff: &mut Roff, lines: &[&str]) {
    let mut text = String::new();
    let mut kept: Vec<&str> = Vec::new();
    let example = lines.first().is_some_and(|line| line.starts_with("# [["));
    for line in lines {
        let Some(comment) = line.strip_prefix('#') else {
            if let Some(section) = line.strip_prefix('[') {
                roff.control("SH", [section.trim_end_matches(']').to_uppercase().as_str()]);
                roff.text([roman("Section "), bold(*line), roman(":")]);
            }
            continue;
        };
        let Some(words) = comment.strip_prefix(' ') else {
            // "#key = default"
            let (key, default) = comment.split_once('=').unwrap_or((comment, ""));
            roff.control("TP", []).text([bold(key.trim()), roman(" = "), italic(default.trim())]);
            roff.text([roman(std::mem::take(&mut text))]);
            continue;
        };
        let call = words.split_once(":   ");
        if example || words.starts_with("  ") || call.is_some() {
            text.push_str(call.map_or("", |(what, _)| what));
            text.push_str(if call.is_some() { ":" } else { "" });
            paragraph(roff, &mut text);
            kept.push(call.map_or(words, |(_, command)| command.trim()));
            if call.is_some() {
                verbatim(roff, kept.drain(..));
            }
        } else {
            if !kept.is_empty() {
                verbatim(roff, kept.drain(..));
            }
            text.push_str(if text.is_empty() { "" } else { " " });
            text.push_str(words);
        }
    }
    paragraph(roff, &mut text);
    if !kept.is_empty() {
        verbatim(roff, kept);
    }
}

fn paragraph(roff: &mut Roff, text: &mut String) {
    if !text.is_empty() {
        roff.control("PP", []).text([roman(std::mem::take(text))]);
    }
}
