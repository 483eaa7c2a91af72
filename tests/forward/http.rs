//! HTTP collectors: what they are sent, and what becomes of their answers.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hepguard::forward::encode::{Encoding, Envelope, Shape};
use hepguard::forward::sender::{Forwarder, OutputStatus};
use hepguard::forward::transport::{self, Api, Failure, Http, Target, Tls};
use serde_json::{Value, json};

use crate::rig::{apart, certificates, now, numbered, output, tls};

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
        let text = requests.recv().expect("one").2;
        let body: Value = serde_json::from_str(&text).expect("JSON");
        read_by_opentelemetry(&text);
        let record = &body["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record["attributes"][0]["key"], "log.record.uid");
    });
}

/// OpenTelemetry's own definition of a request takes ours: a field that it does not know is an error.
fn read_by_opentelemetry(body: &str) {
    let script = "import sys\nfrom google.protobuf import json_format\n\
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest as Request\n\
        read = json_format.Parse(sys.argv[1], Request())\n\
        print(sum(len(scope.log_records) for one in read.resource_logs for scope in one.scope_logs))";
    let python = |body: &str| std::process::Command::new("python3").args(["-c", script, body]).output();
    if !python("{}").is_ok_and(|output| output.status.success()) {
        // a registry may be out of reach
        let _ = writeln!(std::io::stderr(), "SKIPPED read_by_opentelemetry: needs Python's opentelemetry-proto");
        return;
    }
    let output = python(body).expect("python3 runs");
    assert_eq!(output.stdout, b"2\n", "{}\n{body}", String::from_utf8_lossy(&output.stderr));
    let wrong = body.replace("timeUnixNano", "timeUnixMano");
    assert!(!python(&wrong).expect("python3 runs").status.success(), "it takes anything");
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

/// An Elasticsearch that speaks HTTPS alone, wants a certificate of ours, and keeps what it was sent.
const HTTPS: &str = r#"
import http.server, json, ssl, sys
folder, name, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        documents = body.splitlines()[1::2]
        with open(folder + "/documents", "a") as out:
            out.writelines("%s\n" % json.dumps([self.connection.version(), json.loads(one)]) for one in documents)
        answer = json.dumps({"errors": False, "items": [{"create": {"status": 201}}] * len(documents)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *words):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("%s/%s.pem" % (folder, name), "%s/%s.key" % (folder, name))
context.verify_mode = ssl.CERT_REQUIRED
context.load_verify_locations(folder + "/ca.pem")
if len(sys.argv) > 4:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
server = http.server.ThreadingHTTPServer(("0.0.0.0", port), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn https(folder: &Path, certificate: &str, port: u16, more: &[&str]) -> Server {
    let mut command = std::process::Command::new("python3");
    command.args(["-c", HTTPS]).arg(folder).arg(certificate).arg(port.to_string()).args(more);
    let server = Server(command.stderr(std::process::Stdio::null()).spawn().expect("python3 starts"));
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(std::time::Instant::now() < end, "it does not listen");
        std::thread::sleep(Duration::from_millis(30));
    }
    server
}

fn over_tls(url: &str, tls: Option<Tls>) -> Target {
    let (api, index) = (Api::Elastic, "logs-hepguard-default".to_owned());
    Target::Http(Http { api, url: url.to_owned(), index, authorization: None, tls, acknowledge: true })
}

#[test]
fn https_takes_documents_with_our_certificate_and_another_collector_gets_none() {
    apart("https_takes_documents_with_our_certificate_and_another_collector_gets_none", || {
        let dir = tempfile::tempdir().expect("a folder");
        certificates(dir.path());
        let servers =
            [("server", 9243, &["1.2"][..]), ("server", 9244, &[]), ("expired", 9245, &[]), ("strange", 9246, &[])];
        // the certificate is valid until the second it was made
        std::thread::sleep(Duration::from_millis(1100));
        let _servers = servers.map(|(certificate, port, more)| https(dir.path(), certificate, port, more));
        for (port, version) in [(9243, "TLSv1.2"), (9244, "TLSv1.3")] {
            let state = tempfile::tempdir().expect("a folder");
            let mut to = output(over_tls(&format!("https://127.0.0.1:{port}"), Some(tls(dir.path()))));
            to.encoding = Encoding { shape: Shape::Ecs, envelope: Envelope::Bare };
            let (forwarder, _) = Forwarder::start(state.path(), vec![to], "bastion", now).expect("started");
            for number in 0..300 {
                forwarder.submit(&numbered(number, "two\nlines \"quoted\""));
            }
            let status = forwarder.stop(Duration::from_secs(20)).remove(0);
            assert_eq!(status.lanes[0].waiting, 0, "{status:?}");
            let text = std::fs::read_to_string(dir.path().join("documents")).expect("written");
            let documents: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            let numbers: Vec<String> = documents
                .iter()
                .filter_map(|one| Some(one[1]["hepguard"]["notice"]["number"].as_str()?.to_owned()))
                .collect();
            assert_eq!(numbers, (0..300).map(|number| number.to_string()).collect::<Vec<_>>());
            assert!(documents.iter().all(|one| one[0] == version), "{version}: {:?}", documents[0]);
            std::fs::remove_file(dir.path().join("documents")).expect("removed");
        }
        let without = Tls { certificate: None, key: None, ..tls(dir.path()) };
        for (url, tls, words) in [
            ("https://127.0.0.2:9244", tls(dir.path()), "another name"),
            ("https://127.0.0.1:9245", tls(dir.path()), "expired"),
            ("https://127.0.0.1:9246", tls(dir.path()), "authority"),
            ("https://127.0.0.1:9244", without, "client certificate"),
        ] {
            let sent = transport::open(&over_tls(url, Some(tls))).and_then(|mut link| link.send(&[b"{}".to_vec()]));
            match sent.expect_err("refused") {
                Failure::Refused(text) => assert!(text.contains(words), "{url}: {text}"),
                // in TLS 1.3 the end may be there before the word about it
                Failure::Lost(text) if words == "client certificate" => assert!(text.contains(words), "{url}: {text}"),
                other => panic!("{url}: should be told as a refusal: {other:?}"),
            }
        }
        assert!(!dir.path().join("documents").exists(), "and gets nothing");
    });
}
