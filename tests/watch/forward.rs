//! Denies and alerts on their way to a collector, here a file.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::rig::{Rig, append, deny, open, size};

/// Messages the collector has.
fn arrived(rig: &Rig) -> Vec<Value> {
    let text = fs::read_to_string(rig.path("siem.jsonl")).unwrap_or_default();
    // a line that is being written is no line yet
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn with_schema<'a>(messages: &'a [Value], schema: &str) -> Vec<&'a Value> {
    messages.iter().filter(|message| message["schema"] == schema).collect()
}

fn rig(more: &str) -> Rig {
    let rig = Rig::new("");
    let path = rig.path("siem.jsonl");
    let output = format!(
        "[[forward]]\nname = \"siem\"\ntransport = \"file\"\nformat = \"json\"\npath = \"{}\"\n{more}",
        path.display()
    );
    rig.configure(&output);
    rig
}

fn wait(rig: &mut Rig, what: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let folder = rig.path("");
    let path = folder.join("siem.jsonl");
    let _ = rig.until(what, |_| {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        enough(&whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>())
    });
    arrived(rig)
}

fn count(messages: &[Value]) -> u64 {
    with_schema(messages, "hepguard/event/v1").iter().map(|event| event["count"].as_u64().unwrap_or(1)).sum()
}

/// `HEPGUARD_KILLS=200 cargo test --release --test watch killed` is the long version.
fn kills() -> usize {
    std::env::var("HEPGUARD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

#[test]
fn denies_of_one_kind_are_summed_and_alerts_come_and_go() {
    let mut rig = rig("sum-over = \"1s\"\n");
    let all: String = (0..500).map(|number| deny(443 + (number % 2) as u16, number)).collect();
    append(&rig.path("syslog"), &all);
    rig.start();
    let messages = wait(&mut rig, "the denies", |messages| count(messages) >= 500);
    let events = with_schema(&messages, "hepguard/event/v1");
    assert_eq!(count(&messages), 500);
    assert!(events.len() < 50, "{} messages", events.len());
    assert_eq!((&events[0]["dst_port"], &events[0]["policy"]), (&443.into(), &"hep-external".into()));
    // a configuration with a mistake is an alert, a good one its end
    let good = fs::read_to_string(rig.path("hepguard.toml")).expect("there");
    fs::write(rig.path("hepguard.toml"), format!("{good}[nonsense]\n")).expect("written");
    rig.signal(Signal::SIGHUP);
    let with_state = |messages: &[Value], state: &str| {
        with_schema(messages, "hepguard/alert/v1").into_iter().any(|alert| {
            alert["state"] == state
                && alert["finding"]["title"].as_str().is_some_and(|title| title.contains("nonsense"))
        })
    };
    wait(&mut rig, "the alert", |messages| with_state(messages, "new"));
    fs::write(rig.path("hepguard.toml"), good).expect("written");
    rig.signal(Signal::SIGHUP);
    wait(&mut rig, "its end", |messages| with_state(messages, "resolved"));
    let status = rig.until("the queue to be empty", |status| status["outputs"][0]["waiting"] == 0);
    assert_eq!((&status["outputs"][0]["name"], &status["outputs"][0]["lost"]), (&"siem".into(), &0.into()));
    assert_eq!(rig.stop(), Some(0));
}

#[test]
fn a_daemon_killed_at_random_forwards_each_deny() {
    let mut rig = rig("denies = \"each\"\n");
    let mut chance = fastrand::Rng::with_seed(7);
    let mut number = 0;
    for _ in 0..kills() {
        rig.start();
        for _ in 0..chance.usize(1..6) {
            let some: String = (0..100).map(|more| deny(443, number + more)).collect();
            append(&rig.path("syslog"), &some);
            number += 100;
            std::thread::sleep(std::time::Duration::from_millis(chance.u64(0..150)));
        }
        rig.kill();
    }
    rig.start();
    let distinct = |messages: &[Value]| {
        with_schema(messages, "hepguard/event/v1")
            .iter()
            .map(|event| event["src_port"].as_u64().expect("a port"))
            .collect::<BTreeSet<_>>()
    };
    let messages = wait(&mut rig, "every deny", |messages| distinct(messages).len() >= number);
    assert_eq!(distinct(&messages), (1024..1024 + number as u64).collect());
    let ids: BTreeSet<&str> =
        with_schema(&messages, "hepguard/event/v1").iter().filter_map(|event| event["id"].as_str()).collect();
    assert_eq!(ids.len(), number, "what came twice has the same id");
    assert_eq!(rig.stop(), Some(0));
}

#[test]
fn equal_lines_are_events_of_their_own_and_keep_their_ids() {
    let mut rig = rig("denies = \"each\"\n");
    let log = rig.path("syslog");
    append(&log, &deny(443, 1).repeat(3));
    rig.start();
    let ids = |messages: &[Value]| -> Vec<String> {
        let events = with_schema(messages, "hepguard/event/v1");
        events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
    };
    let before = ids(&wait(&mut rig, "three denies", |messages| ids(messages).len() == 3));
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 3, "{before:?}");
    assert_eq!(rig.stop(), Some(0));
    // from the beginning, out of the file's copy: the same events have the same names
    fs::remove_dir_all(rig.path("state")).expect("removed");
    let copy = fs::read(&log).expect("read");
    fs::rename(&log, rig.path("syslog.1")).expect("renamed");
    fs::write(&log, copy).expect("written");
    append(&log, &deny(443, 1));
    rig.start();
    let again = ids(&wait(&mut rig, "four more", |messages| ids(messages).len() == 7));
    assert_eq!(again[3..6], before[..]);
    assert!(!before.contains(&again[6]), "the fourth is new");
    assert_eq!(rig.stop(), Some(0));
}

#[test]
fn sums_of_a_daemon_killed_at_random_add_up() {
    // two outputs that sum for different times: neither closes the other's sums, and none is made twice of the same lines
    let mut rig = rig("sum-over = \"1s\"\n");
    let second = rig.path("second.jsonl");
    let good = fs::read_to_string(rig.path("hepguard.toml")).expect("there");
    let output = format!(
        "[[forward]]\nname = \"second\"\ntransport = \"file\"\nformat = \"json\"\npath = \"{}\"\nsum-over = \"3s\"\n",
        second.display()
    );
    fs::write(rig.path("hepguard.toml"), format!("{good}{output}")).expect("written");
    let mut chance = fastrand::Rng::with_seed(11);
    let mut number = 0;
    for _ in 0..kills() {
        rig.start();
        for _ in 0..chance.usize(1..12) {
            let some: String = (0..50).map(|more| deny(443 + (more % 3) as u16, number + more)).collect();
            append(&rig.path("syslog"), &some);
            number += 50;
            std::thread::sleep(std::time::Duration::from_millis(chance.u64(0..400)));
        }
        rig.kill();
    }
    rig.start();
    // what comes again has the same id and says the same
    let totals = |text: &str| -> Option<[u64; 3]> {
        let mut by_id = std::collections::BTreeMap::new();
        for line in text.lines() {
            let event: Value = serde_json::from_str(line).expect("JSON");
            if event["schema"] == "hepguard/event/v1" {
                let sums = ["count", "packets_total", "bytes_total"].map(|key| event[key].as_u64().expect("a number"));
                let before = by_id.insert(event["id"].as_str()?.to_owned(), sums);
                assert!(before.is_none_or(|before| before == sums), "one id, two sums: {line}");
            }
        }
        Some([0, 1, 2].map(|at| by_id.values().map(|sums| sums[at]).sum()))
    };
    let wanted = written(number);
    for path in [rig.path("siem.jsonl"), second] {
        let read = || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            totals(text.rfind('\n').map_or("", |end| &text[..end]))
        };
        rig.until("every sum", |_| read() >= Some(wanted));
        assert_eq!(read(), Some(wanted), "{}", path.display());
    }
    assert_eq!(rig.stop(), Some(0));
}

/// Whatever became of the queue's files: the daemon starts, and what comes from then on is forwarded.
#[test]
fn a_queue_that_is_spoilt_does_not_keep_the_daemon_from_starting_and_forwarding() {
    let mut rig = rig("denies = \"each\"\n");
    let mut chance = fastrand::Rng::with_seed(3);
    let ports = |messages: &[Value]| -> BTreeSet<u64> {
        with_schema(messages, "hepguard/event/v1").iter().filter_map(|event| event["src_port"].as_u64()).collect()
    };
    let mut number = 0;
    for round in 0..6 {
        append(&rig.path("syslog"), &(number..number + 50).map(|number| deny(443, number)).collect::<String>());
        number += 50;
        rig.start();
        let wanted: BTreeSet<u64> = (number - 50..number).map(|number| 1024 + number as u64).collect();
        wait(&mut rig, "what came last", |messages| ports(messages).is_superset(&wanted));
        rig.kill();
        for lane in ["findings", "denies"] {
            let folder = rig.path("state").join("spool/siem").join(lane);
            for file in fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()) {
                let mut bytes = fs::read(&file).expect("read");
                match round {
                    0 => bytes.iter_mut().for_each(|byte| *byte = chance.u8(..)),
                    1 => bytes.truncate(bytes.len() / 2),
                    2 => bytes.clear(),
                    3 => bytes.extend((0..5000).map(|_| chance.u8(..))),
                    _ => bytes.iter_mut().skip(chance.usize(..40)).step_by(97).for_each(|byte| *byte ^= 64),
                }
                fs::write(&file, bytes).expect("written");
            }
        }
    }
    rig.start();
    assert_eq!(ports(&arrived(&rig)).len(), number, "each was there before its queue was spoilt");
    assert_eq!(rig.stop(), Some(0));
}

/// How many denies, packets and bytes lines with the numbers below `number` tell of.
fn written(number: usize) -> [u64; 3] {
    let (packets, bytes) = (0..number).map(size).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    [number as u64, packets, bytes]
}

/// The number behind `key` in a line of pairs, 0 without one.
fn number_behind(line: &str, key: &str) -> u64 {
    let rest = line.split(key).nth(1).unwrap_or_default();
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}

#[test]
fn sums_in_every_format_tell_the_packets_and_bytes_of_all_their_events() {
    let formats = ["json", "ecs", "ocsf", "cef", "leef", "rfc5424"];
    let mut rig = Rig::new("");
    let outputs: String = formats
        .iter()
        .map(|format| {
            let path = rig.path(format);
            format!(
                "[[forward]]\nname = \"{format}\"\ntransport = \"file\"\nformat = \"{format}\"\npath = \"{}\"\nsum-over = \"1s\"\n",
                path.display()
            )
        })
        .collect();
    rig.configure(&outputs);
    let all = 3000;
    append(&rig.path("syslog"), &(0..all).map(|number| deny(443 + (number % 2) as u16, number)).collect::<String>());
    rig.start();
    for format in formats {
        let path = rig.path(format);
        let told = |line: &str| -> [u64; 3] {
            let json = || serde_json::from_str::<Value>(line).expect("JSON");
            let at = |pointers: [&str; 3]| {
                pointers.map(|pointer| json().pointer(pointer).and_then(Value::as_u64).unwrap_or(0))
            };
            match format {
                "json" => at(["/count", "/packets_total", "/bytes_total"]),
                "ecs" => {
                    let (network, source) = (
                        at(["/hepguard/count", "/network/packets", "/network/bytes"]),
                        at(["/hepguard/count", "/source/packets", "/source/bytes"]),
                    );
                    // all of a deny comes from who asked
                    assert_eq!(network, source, "{line}");
                    network
                }
                "ocsf" if line.contains("\"class_uid\":4001") => at(["/count", "/traffic/packets", "/traffic/bytes"]),
                "ocsf" => [0; 3],
                "cef" => [" cnt=", " cn2=", " in="].map(|key| number_behind(line, key)),
                "leef" => ["eventCount=", "srcPackets=", "srcBytes="].map(|key| number_behind(line, key)),
                _ => [" n=\"", " packets_total=\"", " bytes_total=\""].map(|key| number_behind(line, key)),
            }
        };
        let read = || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let sums: Vec<[u64; 3]> = whole.lines().map(told).filter(|sums| sums[0] > 0).collect();
            (sums.len(), [0, 1, 2].map(|at| sums.iter().map(|sums| sums[at]).sum::<u64>()))
        };
        rig.until(format, |_| read().1[0] >= all as u64);
        let (messages, sums) = read();
        assert_eq!(sums, written(all), "{format}");
        assert!(messages < 100, "{format}: denies of one kind are one message, however large they are: {messages}");
    }
    assert_eq!(rig.stop(), Some(0));
}

/// A collector with the bulk interface of Elasticsearch that takes no document.
fn refusing() -> String {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let mut answers = socket.try_clone().expect("a socket");
            let mut requests = BufReader::new(socket);
            let mut length = 0;
            let mut line = String::new();
            while requests.read_line(&mut line).is_ok_and(|read| read > 0) {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a number");
                }
                if line == "\r\n" {
                    let mut body = vec![0; length];
                    requests.read_exact(&mut body).expect("a body");
                    let documents = body.iter().filter(|byte| **byte == b'\n').count() / 2;
                    let one = r#"{"create":{"status":400,"error":{"reason":"no such field"}}}"#;
                    let text = format!(r#"{{"errors":true,"items":[{}]}}"#, vec![one; documents].join(","));
                    write!(answers, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
                        .expect("answered");
                }
                line.clear();
            }
        }
    });
    url
}

#[test]
fn messages_that_an_http_collector_refuses_are_an_alert_and_kept() {
    let mut rig = Rig::new("");
    rig.configure(&format!(
        "[[forward]]\nname = \"siem\"\ntransport = \"elasticsearch\"\nformat = \"ecs\"\nurl = \"{}\"\ndenies = \"each\"\n",
        refusing()
    ));
    append(&rig.path("syslog"), &(0..5).map(|number| deny(443, number)).collect::<String>());
    rig.start();
    let refused = |status: &Value| {
        let alerts = open(status, "HG524");
        alerts
            .iter()
            .find_map(|alert| alert["title"].as_str().filter(|title| title.contains("refused")).map(str::to_owned))
    };
    // the outputs are looked at once a minute
    let status = rig.until_within(std::time::Duration::from_secs(150), "the alert", |status| refused(status).is_some());
    let aside = rig.path("state").join("spool/siem/refused.log");
    let title = refused(&status).expect("told");
    assert!(title.contains(&aside.display().to_string()), "{title}");
    let kept = fs::read_to_string(&aside).expect("kept");
    let ports: BTreeSet<u64> = kept
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).expect("JSON").pointer("/source/port")?.as_u64())
        .collect();
    assert_eq!(ports, (1024..1029).collect(), "{kept}");
    assert_eq!(rig.stop(), Some(0));
}
