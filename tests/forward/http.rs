//! HTTP collectors: what they are sent, and what becomes of their answers.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hepguard::forward::encode::{Encoding, Envelope, Shape};
use hepguard::forward::sender::{Forwarder, OutputStatus};
use hepguard::forward::transport::{Api, Http, Target};
use serde_json::{Value, json};

use crate::rig::{apart, now, numbered, output};

/// A request: its first line, its headers, its body.
type Request = (String, String, String);

/// A status and what makes a body from the request's.
type Answer = (u16, Box<dyn Fn(&str) -> String + Send>);

/// A server that answers requests in turn with `answers`, and the last one ever after.
fn server(port: u16, answers: Vec<Answer>) -> Receiver<Request> {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut count = 0;
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            while let Some((first, headers, body)) = request(&mut socket) {
                let (status, answer) = &answers[count.min(answers.len() - 1)];
                count += 1;
                let text = answer(&body);
                let _ = write!(socket, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{text}", text.len());
                if sender.send((first, headers, body)).is_err() {
                    return;
                }
            }
        }
    });
    receiver
}

fn request(socket: &mut std::net::TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut byte = [0; 1];
    while !bytes.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    let mut body = vec![0; length];
    socket.read_exact(&mut body).ok()?;
    let (first, headers) = head.split_once("\r\n")?;
    Some((first.to_owned(), headers.to_ascii_lowercase(), String::from_utf8(body).ok()?))
}

fn sends(api: Api, count: u64, port: u16) -> OutputStatus {
    let state = tempfile::tempdir().expect("a folder");
    let forwarder = start(state.path(), api, count, port);
    forwarder.stop(Duration::from_secs(10)).remove(0)
}

fn start(state: &Path, api: Api, count: u64, port: u16) -> Forwarder {
    let token = state.join("token");
    std::fs::write(&token, "Splunk 123\n").expect("written");
    let http = Http {
        api,
        url: format!("http://127.0.0.1:{port}/"),
        index: String::new(),
        authorization: Some(token),
        tls: None,
        acknowledge: true,
    };
    let mut to = output(Target::Http(http));
    to.encoding = Encoding { shape: Shape::Ecs, envelope: Envelope::Bare };
    let (forwarder, _) = Forwarder::start(state, vec![to], "bastion", now).expect("started");
    for number in 0..count {
        forwarder.submit(&numbered(number, "<b>\u{1b}"));
    }
    forwarder.flush().expect("written");
    forwarder
}

/// An answer for each item of a bulk request.
fn items(statuses: &'static [u16]) -> Box<dyn Fn(&str) -> String + Send> {
    Box::new(|body| {
        let count = body.lines().count() / 2;
        let items: Vec<Value> = (0..count)
            .map(|at| json!({ "create": { "status": statuses[at.min(statuses.len() - 1)], "error": { "reason": "bad\u{1b} field" } } }))
            .collect();
        json!({ "errors": true, "items": items }).to_string()
    })
}

#[test]
fn elasticsearch_takes_each_document_once_and_a_bad_one_blocks_nobody() {
    apart("elasticsearch_takes_each_document_once_and_a_bad_one_blocks_nobody", || {
        // too busy; then: taken, there already, bad, busy from the fourth on; then all taken
        let requests = server(
            9200,
            vec![(503, Box::new(|_| "busy".to_owned())), (200, items(&[201, 409, 400, 429])), (200, items(&[201]))],
        );
        let status = sends(Api::Elastic, 6, 9200);
        // and the word about the refused one
        assert_eq!((status.lanes[0].waiting, status.delivered, status.refused), (0, 7, 1), "{status:?}");
        assert!(!status.last_failure.expect("told").1.contains('\u{1b}'));
        let all: Vec<Request> = requests.try_iter().collect();
        let ids = |request: &Request| -> Vec<String> {
            let actions = request.2.lines().step_by(2).map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
            actions.map(|action| action["create"]["_id"].as_str().expect("an id").to_owned()).collect()
        };
        assert!(all[0].0.starts_with("POST /_bulk ") && all[0].1.contains("authorization: splunk 123"), "{:?}", all[0]);
        assert_eq!(ids(&all[0]), ids(&all[1]), "the same ids when sent again");
        assert_eq!(ids(&all[2])[..3], ids(&all[1])[3..], "only what was not taken");
    });
}

#[test]
fn what_a_busy_collector_left_is_sent_again_before_what_stands_behind_it() {
    apart("what_a_busy_collector_left_is_sent_again_before_what_stands_behind_it", || {
        let mut statuses = vec![429; 300];
        statuses[..5].fill(201);
        let requests = server(9200, vec![(200, items(statuses.leak())), (200, items(&[201]))]);
        let state = tempfile::tempdir().expect("a folder");
        let forwarder = start(state.path(), Api::Elastic, 600, 9200);
        let mut taken = Vec::new();
        // nobody is told to end: it has to go on by itself
        while taken.len() < 600 {
            let (_, _, body) = requests.recv_timeout(Duration::from_secs(30)).expect("the rest is sent");
            let documents =
                body.lines().skip(1).step_by(2).map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
            let mut all: Vec<Value> = documents.collect();
            if taken.is_empty() {
                all.truncate(5);
            }
            taken.extend(all);
        }
        let status = forwarder.stop(Duration::from_secs(10)).remove(0);
        assert_eq!((status.lanes[0].waiting, status.delivered, status.refused), (0, 600, 0), "{status:?}");
        let ids: Vec<&str> = taken.iter().filter_map(|document| document.pointer("/event/id")?.as_str()).collect();
        let wanted: Vec<String> = (0..600).map(|number| numbered(number, "x").id).collect();
        assert_eq!(ids, wanted, "each once, in order");
    });
}

#[test]
fn what_http_collectors_refuse_is_set_aside_and_they_are_told() {
    apart("what_http_collectors_refuse_is_set_aside_and_they_are_told", || {
        let rejected =
            json!({ "partialSuccess": { "rejectedLogRecords": "2", "errorMessage": "too old" } }).to_string();
        for (api, port, answer, refused, kept) in [
            (Api::Elastic, 9200, items(&[201, 400, 201]), 1, 1..2),
            // which of them is not said
            (Api::Otlp, 4318, Box::new(move |_: &str| rejected.clone()) as _, 2, 0..4),
        ] {
            let well: Box<dyn Fn(&str) -> String + Send> =
                if api == Api::Elastic { items(&[201]) } else { Box::new(|_| "{}".to_owned()) };
            let requests = server(port, vec![(200, answer), (200, well)]);
            let state = tempfile::tempdir().expect("a folder");
            let status = start(state.path(), api, 4, port).stop(Duration::from_secs(10)).remove(0);
            assert_eq!((status.lanes[0].waiting, status.refused), (0, refused), "{status:?}");
            let (at, path) = status.last_refused.expect("told");
            assert!(at > 0);
            assert_eq!(path, state.path().join("siem/refused.log"));
            let aside = std::fs::read_to_string(&path).expect("set aside");
            let documents = aside.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
            let ids: Vec<String> =
                documents.filter_map(|one| Some(one.pointer("/event/id")?.as_str()?.to_owned())).collect();
            let wanted: Vec<String> = kept.clone().map(|number| numbered(number, "x").id).collect();
            assert_eq!(ids, wanted, "{}", api.name());
            let all: Vec<Request> = requests.try_iter().collect();
            assert_eq!(all.len(), 2, "the messages and the word: nothing is sent again");
            let word = all[1].2.replace('\\', "");
            let lost = format!("\"lost\":\"{refused}\"");
            let from = format!("\"from\":\"{}\"", kept.start + 1);
            assert!([lost, from, "set aside".to_owned()].iter().all(|words| word.contains(words)), "{word}");
        }
    });
}

#[test]
fn splunk_loki_and_otlp_get_what_they_ask_for() {
    apart("splunk_loki_and_otlp_get_what_they_ask_for", || {
        let requests = server(
            8088,
            vec![
                (200, Box::new(|_| json!({ "text": "Success", "code": 0, "ackId": 7 }).to_string())),
                (200, Box::new(|_| json!({ "acks": { "7": false } }).to_string())),
                (200, Box::new(|_| json!({ "acks": { "7": true } }).to_string())),
            ],
        );
        let status = sends(Api::Splunk, 2, 8088);
        assert_eq!((status.lanes[0].waiting, status.delivered), (0, 2), "{status:?}");
        let all: Vec<Request> = requests.try_iter().collect();
        assert_eq!(all.len(), 3, "asked until an indexer has it");
        let first: Value =
            serde_json::Deserializer::from_str(&all[0].2).into_iter().next().expect("one").expect("JSON");
        assert_eq!((&first["host"], &first["event"]["ecs"]["version"]), (&"bastion".into(), &"9.4.0".into()));
        assert_eq!(first["time"], 1_795_241_652.345);

        let requests = server(3100, vec![(204, Box::new(|_| String::new()))]);
        assert_eq!(sends(Api::Loki, 2, 3100).delivered, 2);
        let body: Value = serde_json::from_str(&requests.recv().expect("one").2).expect("JSON");
        assert_eq!(body["streams"][0]["values"][0][0], "1795241652345000000");

        let requests = server(4318, vec![(200, Box::new(|_| "{}".to_owned()))]);
        assert_eq!(sends(Api::Otlp, 2, 4318).delivered, 2);
        let body: Value = serde_json::from_str(&requests.recv().expect("one").2).expect("JSON");
        let record = &body["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record["attributes"][0]["key"], "log.record.uid");
    });
}

#[test]
fn a_collector_that_does_not_know_us_is_told_apart_from_one_that_is_away() {
    apart("a_collector_that_does_not_know_us_is_told_apart_from_one_that_is_away", || {
        let _requests = server(8088, vec![(403, Box::new(|_| "who are you".to_owned()))]);
        let status = sends(Api::Splunk, 1, 8088);
        let (_, text, act) = status.last_failure.expect("told");
        assert!(act && text.contains("authorization"), "{text}");
        assert_eq!(status.lanes[0].waiting, 1);
        let (_, text, act) = sends(Api::Loki, 1, 9).last_failure.expect("told");
        assert!(!act, "{text}");
    });
}
