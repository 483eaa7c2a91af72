//! Ways that stay on the host, and the one nobody answers: a file that is rotated, `/dev/log`, UDP.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use hepguard::forward::encode::rfc5424::Header;
use hepguard::forward::encode::{Encoding, Envelope, Shape};
use hepguard::forward::sender::{Forwarder, Output};
use hepguard::forward::settings;
use hepguard::forward::transport::Target;

use crate::rig::{Rsyslog, apart, input, now, numbered, numbers, output};

const HOSTILE: [&str; 3] = ["plain", "two\nlines\r\n12 <13>1 forged", "a \"quoted\" \\ value] [x y=\"z\"] \u{1b}[31m"];

#[test]
fn a_file_that_is_rotated_gets_every_message_once() {
    let (dir, state) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let path = dir.path().join("siem.log");
    let to = output(Target::File(path.clone()));
    let (forwarder, _) = Forwarder::start(state.path(), vec![to], "bastion", now).expect("started");
    let read = |name: &str| -> Vec<String> {
        fs::read_to_string(dir.path().join(name)).unwrap_or_default().lines().map(str::to_owned).collect()
    };
    for round in 0..4_u64 {
        for number in 0..100 {
            forwarder.submit(&numbered(100 * round + number, HOSTILE[number as usize % HOSTILE.len()]));
        }
        forwarder.flush().expect("written");
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while forwarder.status()[0].lanes[0].waiting > 0 && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        match round {
            // as logrotate does it: the name means another file, then none
            0 => {
                fs::rename(&path, dir.path().join("siem.log.1")).expect("renamed");
                fs::write(&path, "").expect("made");
            }
            1 => fs::rename(&path, dir.path().join("siem.log.2")).expect("renamed"),
            // copied and cut off
            2 => {
                fs::copy(&path, dir.path().join("siem.log.3")).expect("copied");
                fs::File::options().write(true).open(&path).and_then(|file| file.set_len(0)).expect("cut");
            }
            _ => {}
        }
    }
    assert_eq!(forwarder.stop(Duration::from_secs(10)).remove(0).lanes[0].waiting, 0);
    for (name, from) in [("siem.log.1", 0), ("siem.log.2", 100), ("siem.log.3", 200), ("siem.log", 300)] {
        assert_eq!(numbers(&read(name)), (from..from + 100).collect::<Vec<_>>(), "{name}");
    }
}

fn sends(to: Output, all: u64) {
    let state = tempfile::tempdir().expect("a folder");
    let (forwarder, _) = Forwarder::start(state.path(), vec![to], "bastion", now).expect("started");
    for number in 0..all {
        forwarder.submit(&numbered(number, HOSTILE[number as usize % HOSTILE.len()]));
        // nobody answers a datagram: not faster than a slow machine reads
        if number % 20 == 19 {
            forwarder.flush().expect("written");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let status = forwarder.stop(Duration::from_secs(10)).remove(0);
    assert_eq!(status.lanes[0].waiting, 0, "{status:?}");
}

#[test]
fn every_message_arrives_intact_over_udp_and_the_hosts_own_socket() {
    apart("every_message_arrives_intact_over_udp_and_the_hosts_own_socket", || {
        let dir = tempfile::tempdir().expect("a folder");
        let at = dir.path().display();
        // the parser that /dev/log has, and the one of the network
        let inputs = format!(
            "{}module(load=\"imudp\") module(load=\"imuxsock\" SysSock.Use=\"off\")\n\
             input(type=\"imudp\" Port=\"5514\" address=\"127.0.0.1\" ruleset=\"rx\")\n\
             input(type=\"imuxsock\" socket=\"{at}/log\" ruleset=\"rx\")\n\
             input(type=\"imuxsock\" socket=\"{at}/network\" useSpecialParser=\"off\" parseHostname=\"on\" ruleset=\"rx\")\n",
            input("imtcp", 6010, "")
        );
        let local = |name: &str, envelope| {
            let encoding = Encoding { shape: Shape::Text, envelope };
            Output { encoding, ..output(Target::Unix(dir.path().join(name))) }
        };
        let ways = [
            (output(Target::Udp("127.0.0.1:5514".to_owned())), "bastion | hepguard | HEALTH | ["),
            (local("network", Envelope::Syslog(Header::default())), "bastion | hepguard | HEALTH | ["),
            (local("log", Envelope::Local(Header::default())), " | hepguard | - | - |  HEALTH [hepguard@32473 id=\""),
        ];
        for (to, head) in ways {
            let target = to.target.to_string();
            let collector = Rsyslog::start(dir.path(), &inputs);
            sends(to, 300);
            let lines = collector.wait_for(Duration::from_secs(10), |lines| lines.len() >= 300);
            assert_eq!(numbers(&lines), (0..300).collect::<Vec<_>>(), "{target}: {:?}", lines.first());
            assert_eq!(lines.len(), 300, "{target}: no message became two");
            for (line, text) in lines.iter().zip(HOSTILE.iter().cycle()) {
                let spelled: String = text
                    .chars()
                    .flat_map(|c| {
                        let hidden = c.is_control();
                        if hidden { c.escape_default().collect::<Vec<_>>() } else { vec![c] }
                    })
                    .collect();
                assert!(line.contains(head) && line.ends_with(&spelled), "{target}: {line}");
            }
            drop(collector);
            let _ = fs::remove_file(dir.path().join("out.log"));
        }
    });
}

#[test]
fn the_hosts_own_socket_gets_the_form_that_its_readers_know() {
    let of = |path: &str| {
        let text = format!("[[forward]]\nname = \"a\"\ntransport = \"unix\"\npath = \"{path}\"\n");
        let config = hepguard::config::read(&"hepguard.toml".into(), text.as_bytes()).expect("sound");
        settings::output(&config.forward[0]).encoding.envelope
    };
    assert!(matches!(of("/dev/log"), Envelope::Local(_)));
    assert!(matches!(of("/run/siem"), Envelope::Syslog(_)));
}

/// A queue from an outage is sent no faster than configured, and whole.
#[test]
fn a_queue_does_not_fall_on_the_collector_at_once() {
    let (dir, state) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let path = dir.path().join("siem.log");
    let to = Output { max_per_second: 100, ..output(Target::File(path.clone())) };
    let began = std::time::Instant::now();
    let (forwarder, _) = Forwarder::start(state.path(), vec![to], "bastion", now).expect("started");
    for number in 0..250 {
        forwarder.submit(&numbered(number, "waited"));
    }
    forwarder.flush().expect("written");
    let mut seen = 0;
    while seen < 250 {
        // what was delivered, then the time: a slow machine only makes more room
        seen = forwarder.status()[0].delivered;
        let (most, passed) = (100.0 * began.elapsed().as_secs_f64() + 10.0, began.elapsed());
        assert!(seen as f64 <= most, "{seen} after {passed:?}");
        assert!(passed < Duration::from_secs(60), "{seen} delivered");
        std::thread::sleep(Duration::from_millis(20));
    }
    // the end does not wait for ever, and what is left stays
    for number in 250..5000 {
        forwarder.submit(&numbered(number, "waited"));
    }
    let status = forwarder.stop(Duration::from_millis(200)).remove(0);
    assert!(status.lanes[0].waiting > 0 && status.lost == 0, "{status:?}");
    let arrived = numbers(&fs::read_to_string(&path).expect("read").lines().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(arrived, (0..5000 - status.lanes[0].waiting).collect::<Vec<_>>());
}

/// No collector, little room, and denies without end: the finding from before the flood is the first to arrive.
#[test]
fn a_flood_of_denies_never_pushes_a_finding_out() {
    use hepguard::audit::finding::{Finding, Severity};
    use hepguard::forward::encode::message::{Body, Message, State, id_of};
    let (dir, state) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let path = dir.path().join("absent/siem.log");
    let to = Output { max_bytes: 2 << 20, ..output(Target::File(path.clone())) };
    let (forwarder, _) = Forwarder::start(state.path(), vec![to], "bastion", now).expect("started");
    let lost = Finding::coded("HG251", "plan-flow-lost", Severity::Critical, serde_json::json!({}), "SSH is lost");
    let body = Body::Finding { finding: &lost, state: State::New };
    forwarder.submit(&Message { id: id_of(&[b"lost"]), time: 0, host: "bastion", body });
    let event = super::formats::event("p", false);
    let flood = 20_000_u32;
    for number in 0..flood {
        let body = Body::Event { event: &event, raw: &[b'x'; 200] };
        forwarder.submit(&Message { id: id_of(&[&number.to_le_bytes()]), time: 0, host: "bastion", body });
        if number % 500 == 0 {
            forwarder.flush().expect("written");
        }
    }
    fs::create_dir(dir.path().join("absent")).expect("the way is open");
    let status = forwarder.stop(Duration::from_secs(60)).remove(0);
    assert_eq!((status.lanes[0].waiting, status.lanes[1].waiting), (0, 0), "{status:?}");
    let text = fs::read_to_string(&path).expect("written");
    assert!(
        text.lines().next().is_some_and(|line| line.contains(" FINDING ") && line.contains("HG251")),
        "{text:.300}"
    );
    let arrived: BTreeSet<&str> = text.lines().filter(|line| line.contains(" DENY ")).collect();
    let told = text.lines().filter_map(|line| line.split("lost=\"").nth(1)?.split('"').next()?.parse::<u64>().ok());
    let told: u64 = told.sum();
    assert!(told > 0 && arrived.len() as u64 + told == u64::from(flood), "{} arrived, {told} told lost", arrived.len());
}
