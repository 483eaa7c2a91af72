use super::*;
use crate::audit::audit;
use crate::audit::flows::report;
use crate::calico::failsafe::compare;
use crate::demo::World;
use crate::snapshot::{self, Snapshot};

fn made(snapshot: &Snapshot) -> String {
    let audit = audit(snapshot);
    let failsafe = compare(&snapshot.files, &snapshot.ruleset, &snapshot.host);
    let flows = report(snapshot);
    page(&Page {
        version: "1.2.3",
        made: "2026-11-29T12:00:00Z",
        judged: "a snapshot",
        audit: &audit,
        failsafe: &failsafe,
        flows: &flows,
        denies: None,
        walks: &[],
        meanings: &snapshot.meanings(),
    })
}

#[test]
fn the_lab_is_told_in_order() {
    let page = made(&snapshot::read(World::Before.files()));
    let mut at = 0;
    for (anchor, title) in SECTIONS {
        let found = page.find(&format!("<section id=\"{anchor}\"")).unwrap_or_else(|| panic!("{title} is missing"));
        assert!(found > at, "{title} comes in its turn");
        at = found;
    }
    for expected in ["CRITICAL", "HG104", "tcp:0.0.0.0/0:22", "edge masked", "when Felix restarts"] {
        assert!(page.contains(expected), "{expected}");
    }
    let after = made(&snapshot::read(World::After.files()));
    assert!(after.contains("edge denied") && after.contains("class=\"cross\""), "a lost flow is red and crossed");
}

#[test]
fn names_of_others_are_words_and_never_markup() {
    let evil = "x<script>alert(1)</script>\"'&\u{202e}\u{1b}[31m";
    let mut files = World::Before.files();
    let policies = World::Before.embedded().iter().find(|(name, _)| *name == "iptables-legacy-save.txt");
    let text = String::from_utf8_lossy(policies.expect("the lab's rules").1).replace("hep-external", evil);
    files.files.insert("iptables-legacy-save.txt".to_owned(), crate::files::FileState::Present(text.into_bytes()));
    files.files.insert(format!("persisted/{evil}"), crate::files::FileState::Unreadable(evil.to_owned()));
    let page = made(&snapshot::read(files));
    assert!(page.contains("&lt;script&gt;"), "it is shown");
    for raw in ["<script", "\u{202e}", "\u{1b}", "\"'&\\u"] {
        assert!(!page.contains(raw), "{raw:?} is not raw");
    }
    // what is between angle brackets is this program's own
    for tag in page.split('<').skip(1).filter_map(|rest| rest.split(['>', ' ', '\n']).next()) {
        assert!(tag.trim_start_matches(['/', '!']).chars().all(|c| c.is_ascii_alphanumeric()), "<{tag}");
    }
}

#[test]
fn nothing_is_loaded_and_the_style_sheet_is_the_allowed_one() {
    let page = made(&Snapshot::default());
    for word in ["http://", "https://", "<script", "<link", "<img", "<iframe", "url(", "@import", " style=", " onclick"]
    {
        assert!(!page.contains(word), "{word}");
    }
    let sheet = page.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next()).expect("a style sheet");
    let hash = sha256_base64(sheet).replace('-', "+").replace('_', "/");
    assert!(page.contains(&format!("style-src &#39;sha256-{hash}=&#39;;")), "its hash");
    assert!(page.contains("default-src &#39;none&#39;"));
}

#[test]
fn a_host_of_which_nothing_is_known_is_no_clean_bill() {
    let page = made(&Snapshot::default());
    assert!(page.contains("What could not be read"), "{page}");
    assert!(!page.contains(">CLEAN<"), "{page}");
}

/// Relative luminance of `#rrggbb`, as the accessibility guidelines have it.
fn luminance(color: &str) -> f64 {
    let part = |at: usize| {
        let value = f64::from(u8::from_str_radix(&color[at..at + 2], 16).expect("a colour")) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
}

#[test]
fn every_text_has_the_contrast_that_people_need() {
    let dark = STYLE.split("prefers-color-scheme: dark").nth(1).expect("a dark scheme");
    for (scheme, sheet) in [("light", STYLE), ("dark", dark)] {
        let color = |name: &str| {
            let rest = sheet.split(&format!("--{name}: ")).nth(1).unwrap_or_else(|| panic!("{scheme} has {name}"));
            luminance(rest.split(';').next().expect("a value"))
        };
        for (text, back) in [
            ("text", "back"),
            ("text", "panel"),
            ("soft", "back"),
            ("soft", "panel"),
            ("link", "back"),
            ("link", "panel"),
            ("bad", "back"),
            ("bad", "bad-back"),
            ("warn", "back"),
            ("warn", "warn-back"),
            ("good", "back"),
            ("good", "good-back"),
            ("text", "warn-back"),
            ("soft", "warn-back"),
            ("bad", "warn-back"),
            ("good", "warn-back"),
        ] {
            let (one, other) = (color(text), color(back));
            let ratio = (one.max(other) + 0.05) / (one.min(other) + 0.05);
            assert!(ratio >= 4.5, "{scheme}: {text} on {back} has {ratio:.2}");
        }
    }
}
