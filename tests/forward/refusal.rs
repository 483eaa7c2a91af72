//! A message that the collector takes for bad does not hold up the others.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hepguard::forward::sender::Forwarder;
use hepguard::forward::transport::Target;

use crate::rig::{now, numbered, output};

/// A RELP server that refuses messages with `poison` in them; what it was sent, and whether it took it.
fn server() -> (String, Receiver<(String, bool)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(socket) = socket else { return };
            let mut answers = socket.try_clone().expect("a socket");
            let mut frames = BufReader::new(socket);
            while let Some((number, command, data)) = frame(&mut frames) {
                let poison = data.contains("poison");
                let answer = match (command.as_str(), poison) {
                    ("open", _) => "200 OK\nrelp_version=0\nrelp_software=test\ncommands=syslog",
                    ("syslog", true) => "500 bad message",
                    _ => "200 OK",
                };
                if command == "syslog" && sender.send((data, !poison)).is_err() {
                    return;
                }
                let _ = writeln!(answers, "{number} rsp {} {answer}", answer.len());
            }
        }
    });
    (address, receiver)
}

fn frame(frames: &mut BufReader<TcpStream>) -> Option<(String, String, String)> {
    let mut word = || {
        let mut word = Vec::new();
        frames.read_until(b' ', &mut word).ok()?;
        String::from_utf8(word).ok()?.strip_suffix(' ').map(str::to_owned)
    };
    let (number, command, length) = (word()?, word()?, word()?);
    let mut data = vec![0; length.parse::<usize>().ok()? + 1];
    frames.read_exact(&mut data).ok()?;
    Some((number, command, String::from_utf8(data).ok()?))
}

#[test]
fn a_message_that_relp_refuses_is_set_aside_and_the_rest_arrives() {
    let state = tempfile::tempdir().expect("a folder");
    let (address, received) = server();
    let target = Target::Relp { address, tls: None };
    let (forwarder, _) = Forwarder::start(state.path(), vec![output(target)], "bastion", now).expect("started");
    for number in 0..300 {
        forwarder.submit(&numbered(number, if matches!(number, 0 | 150 | 151) { "poison" } else { "good" }));
    }
    forwarder.flush().expect("written");
    let status = forwarder.stop(Duration::from_secs(30)).remove(0);
    assert_eq!((status.lanes[0].waiting, status.refused), (0, 3), "{status:?}");
    let (at, path) = status.last_refused.expect("told");
    assert!(at > 0);
    let all: Vec<(String, bool)> = received.try_iter().collect();
    let taken: Vec<&str> = all.iter().filter(|(_, taken)| *taken).map(|(text, _)| text.as_str()).collect();
    for number in (0..300).filter(|number| !matches!(number, 0 | 150 | 151)) {
        let field = format!("number=\"{number}\"");
        assert!(taken.iter().any(|text| text.contains(&field)), "{number} did not arrive");
    }
    let aside = std::fs::read_to_string(path).expect("set aside");
    for (number, sequence) in [(0, 1), (150, 151), (151, 152)] {
        let field = format!("number=\"{number}\"");
        let tries = all.iter().filter(|(text, taken)| !taken && text.contains(&field)).count();
        assert!((3..=6).contains(&tries), "{number}: {tries} tries");
        assert_eq!(aside.lines().filter(|line| line.contains(&field)).count(), 1, "{aside}");
        // and the collector knows which number it will not see
        let (from, to) = (format!("from=\"{sequence}\""), format!("to=\"{sequence}\""));
        let told = |text: &&&str| text.contains("set aside") && text.contains(&from) && text.contains(&to);
        assert_eq!(taken.iter().filter(told).count(), 1, "{sequence}");
    }
}
