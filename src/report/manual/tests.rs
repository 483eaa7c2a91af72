use super::*;
use crate::audit::registry;
use crate::report::explain::Page;

fn edition() -> Edition {
    Edition { version: "1.2.3".to_owned(), date: "2026-11-29".to_owned() }
}

#[test]
fn every_key_of_the_configuration_is_on_its_page() {
    let text = configuration(&edition()).text;
    // the example shows every key; what it shows as one is on the page
    let keys = include_str!("../../../packaging/hepguard.toml").lines().filter_map(|line| {
        let key = line.strip_prefix('#')?.split(" = ").next()?;
        (!key.starts_with(' ') && !key.is_empty()).then(|| key.replace('-', "\\-"))
    });
    let mut found = 0;
    for key in keys {
        found += 1;
        assert!(text.contains(&format!(".TP\n\\fB{key}\\fR = \\fI")), "{key} is missing\n{text}");
    }
    assert!(found > 15, "{found} keys");
    assert!(text.contains("\n[[protect]]\n") && text.contains("hepguard config check\n"), "{text}");
}

#[test]
fn every_finding_is_on_its_page_and_nothing_is_obeyed_as_a_macro() {
    let mut pages: Vec<Page> = registry::CHECKS.iter().map(Page::from).collect();
    pages.push(Page {
        code: "HG999",
        name: "hostile",
        severity: crate::audit::finding::Severity::Low,
        summary: "x",
        lines: [".so /etc/passwd", "", "'ds x", "", "- item `\\fBcode\\fR`", "  goes on"].map(str::to_owned).to_vec(),
    });
    let text = findings(&pages, &edition()).text;
    for page in &pages {
        assert!(text.contains(&format!("{} {}", page.code, page.name)), "{}", page.code);
    }
    assert!(!text.contains("\n.so") && !text.contains("\n'ds"), "escaped");
    assert!(text.contains(".IP \\(bu 2\nitem \\fB\\\\fBcode\\\\fR\\fR goes on\n"), "{text}");
}

#[test]
fn a_command_page_has_its_examples_and_exit_status() {
    let program = clap::Command::new("hepguard").version("1.2.3").about("Guards").subcommand(
        clap::Command::new("look")
            .about("Looks")
            .arg(clap::Arg::new("file").help("What to look at"))
            .after_help("Examples:\n  hepguard look -a\n\nMore to say\nhere.\n\nExit codes: 0 fine, 1 not."),
    );
    let pages = commands(program, &edition());
    let names: Vec<&str> = pages.iter().map(|page| page.file.as_str()).collect();
    assert_eq!(names, ["hepguard-look.1", "hepguard.1"]);
    let look = &pages[0].text;
    assert!(look.contains(".TH hepguard-look 1 2026-11-29 \"hepguard 1.2.3\" hepguard\n"), "{look}");
    assert!(look.contains(".SH EXAMPLES\n.PP\n.RS 4\n.nf\nhepguard look \\-a\n.fi\n.RE\n"), "{look}");
    assert!(look.contains(".SH \"EXIT STATUS\"\n0 fine, 1 not.\n"), "{look}");
    assert_eq!(look.matches("EXIT STATUS").count(), 1);
    assert!(pages[1].text.contains("/etc/hepguard/hepguard.toml"));
}
