//! What a terminal shows: no line runs over its edge, colour only where it is wanted, nothing of it in a pipe.

use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Stdio};

use nix::pty::{Winsize, openpty};

const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/demo");

/// Calls whose answers are text for people; `@` stands for the lab's folder.
const CALLS: [&str; 21] = [
    "audit --snapshot @/before",
    "audit -v --snapshot @/after",
    "audit -q --snapshot @/after",
    "failsafe --snapshot @/before",
    "flows --snapshot @/before",
    "flows -v --snapshot @/before",
    "plan --felix restart --snapshot @/before",
    "plan -v --set FailsafeOutboundHostPorts=tcp:22 --snapshot @/before",
    "trace -v out tcp 10.0.1.10:51522 10.0.1.30:22 -o ens5 --snapshot @/before",
    "trace --conversation in tcp 203.0.113.7:51522 10.0.1.10:22 -i ens5 --snapshot @/before",
    "reach out tcp/22 --explain --snapshot @/before",
    "matrix tcp/443 --hook output -o ens5 --snapshot @/before",
    "lint -v @/before/calico",
    "diff @/before @/after",
    "denies @/syslog",
    "denies @/syslog --suggest --histogram --snapshot @/before",
    "explain",
    "explain HG104",
    "explain HG461",
    "demo",
    "--help",
];

fn command(call: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hepguard"));
    // the temporary folder of the package is no part of the width
    command.current_dir(LAB).args(call.split(' ').map(|word| word.replace("@/", "")));
    command.env_remove("NO_COLOR").env_remove("COLUMNS").env("TERM", "xterm").stdin(Stdio::null());
    command
}

/// What is printed into a pipe.
fn piped(call: &str) -> String {
    let output = command(call).output().expect("hepguard starts");
    assert_ne!(output.status.code(), Some(2), "{call}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// What is printed on a terminal of this width.
fn on_terminal(call: &str, columns: u16, no_color: bool) -> String {
    let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).expect("a terminal");
    let mut command = command(call);
    command.stdout(Stdio::from(terminal.slave)).stderr(Stdio::null());
    if no_color {
        command.env("NO_COLOR", "1");
    }
    let mut child = command.spawn().expect("hepguard starts");
    // our own end of the slave goes with the command, so that reading ends
    drop(command);
    let mut bytes = Vec::new();
    // a terminal whose last writer is gone ends with an error
    let _ = File::from(terminal.master).read_to_end(&mut bytes);
    assert_ne!(child.wait().expect("it ends").code(), Some(2), "{call}");
    String::from_utf8(bytes).expect("text").replace("\r\n", "\n")
}

fn without_color(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| out + part.split_once('m').map_or(part, |(_, rest)| rest))
}

fn widest(text: &str) -> (usize, &str) {
    text.lines().map(|line| (line.chars().count(), line)).max().unwrap_or_default()
}

#[test]
fn a_pipe_gets_eighty_columns_and_no_colour() {
    for call in CALLS {
        let text = piped(call);
        let (width, line) = widest(&text);
        let room = if call == "--help" { 100 } else { 80 };
        assert!(width <= room && width > 20, "{call} has a line of {width}: {line}");
        assert!(!text.contains('\x1b'), "{call}: colour in a pipe");
    }
}

#[test]
fn a_terminal_is_filled_to_its_edge_and_not_beyond() {
    for call in CALLS {
        for columns in [80, 160] {
            let text = on_terminal(call, columns, false);
            let plain = without_color(&text);
            let (width, line) = widest(&plain);
            let room = usize::from(columns);
            assert!(width <= room, "{call} on {columns} columns has a line of {width}: {line}");
            assert!(!plain.contains('\x1b'), "{call}: only colours are sent");
        }
        assert!(!on_terminal(call, 80, true).contains('\x1b') || call == "--help", "{call}: NO_COLOR is honoured");
    }
    // room is used where there is some
    assert!(widest(&on_terminal("audit --snapshot @/before", 160, true)).0 > 100);
}

/// Sixteen colours are enough: nothing but the basic attributes and foregrounds, whatever the terminal's background.
#[test]
fn only_the_sixteen_colours_are_used() {
    for call in CALLS.iter().filter(|call| **call != "--help") {
        let text = on_terminal(call, 80, false);
        for code in text.split("\x1b[").skip(1).filter_map(|rest| rest.split_once('m').map(|(code, _)| code)) {
            for part in code.split(';') {
                assert!(matches!(part, "0" | "1" | "2" | "31" | "32" | "33"), "{call}: {code}");
            }
        }
    }
}
