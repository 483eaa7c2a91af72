//! Every event arrives intact over each transport, and a collector that is not whom it should be gets nothing.

use std::time::Duration;

use hepguard::forward::frame::Framing;
use hepguard::forward::sender::Forwarder;
use hepguard::forward::transport::{self, Failure, Target, Tls};

use crate::rig::{Rsyslog, apart, certificates, input, now, numbered, numbers, output, tls};

/// What a log may hold: structure, ends of lines, escapes, other alphabets.
const HOSTILE: [&str; 5] = [
    "plain",
    "two\nlines\r\n12 <13>1 forged",
    "a \"quoted\" \\ value] [x y=\"z\"]",
    "\u{1b}[31mred\u{7}",
    "Zürich 東京 \u{202e}",
];

fn arrives(target: &Target, collector: &Rsyslog) {
    let state = tempfile::tempdir().expect("a folder");
    let (forwarder, _) = Forwarder::start(state.path(), vec![output(target.clone())], "bastion", now).expect("started");
    for number in 0..500 {
        forwarder.submit(&numbered(number, HOSTILE[number as usize % HOSTILE.len()]));
        if number % 50 == 0 {
            forwarder.flush().expect("written");
        }
    }
    let status = forwarder.stop(Duration::from_secs(20)).remove(0);
    assert_eq!(status.lanes[0].waiting, 0, "{target}: {status:?}");
    let lines = collector.wait_for(Duration::from_secs(10), |lines| lines.len() >= 500);
    assert_eq!(numbers(&lines), (0..500).collect::<Vec<_>>(), "{target}");
    assert_eq!(lines.len(), 500, "{target}: no message became two");
    for line in &lines {
        assert!(line.starts_with("bastion | hepguard | HEALTH | [hepguard@32473 id=\""), "{target}: {line}");
    }
    assert!(lines[1].ends_with("two\\nlines\\r\\n12 <13>1 forged"), "{target}: {}", lines[1]);
    assert!(lines[2].ends_with(HOSTILE[2]), "{target}: {}", lines[2]);
    assert!(lines[4].contains("Zürich 東京"), "{target}: {}", lines[4]);
    let _ = std::fs::remove_file(collector.folder.join("out.log"));
}

#[test]
fn every_message_arrives_intact_over_tcp_tls_and_relp() {
    apart("every_message_arrives_intact_over_tcp_tls_and_relp", || {
        let dir = tempfile::tempdir().expect("a folder");
        certificates(dir.path());
        let relp_tls = format!(
            "tls=\"on\" tls.caCert=\"{0}/ca.pem\" tls.myCert=\"{0}/server.pem\" tls.myPrivKey=\"{0}/server.key\" \
             tls.authMode=\"name\" tls.permittedPeer=[\"bastion.test\"]",
            dir.path().display()
        );
        let strict = "streamDriver.name=\"ossl\" streamDriver.mode=\"1\" streamDriver.authMode=\"x509/name\" permittedPeer=[\"bastion.test\"]";
        let inputs = [
            input("imtcp", 6010, ""),
            input("imtcp", 6514, strict),
            input("imrelp", 2514, ""),
            input("imrelp", 2515, &relp_tls),
        ];
        // each its own collector: omfile keeps its file open
        let targets = [
            Target::Tcp { address: "127.0.0.1:6010".to_owned(), framing: Framing::OctetCounting },
            Target::Tls { address: "127.0.0.1:6514".to_owned(), tls: tls(dir.path()) },
            Target::Relp { address: "127.0.0.1:2514".to_owned(), tls: None },
            Target::Relp { address: "127.0.0.1:2515".to_owned(), tls: Some(tls(dir.path())) },
        ];
        for (target, input) in targets.into_iter().zip(&inputs) {
            let collector = Rsyslog::start(dir.path(), input);
            arrives(&target, &collector);
        }
        let collector = Rsyslog::start(dir.path(), &inputs[0]);
        arrives(&Target::Tcp { address: "127.0.0.1:6010".to_owned(), framing: Framing::LineFeed }, &collector);
    });
}

/// What opening the way says, and one message behind it: a refused client certificate shows only then.
fn refusal(address: &str, tls: &Tls) -> Failure {
    let target = Target::Tls { address: address.to_owned(), tls: tls.clone() };
    match transport::open(&target) {
        Err(failure) => failure,
        Ok(mut link) => {
            let sent = link.send(&[b"<14>1 - - - - - - x".to_vec()]);
            sent.and_then(|_| link.settle(Duration::from_secs(5))).expect_err("should be refused")
        }
    }
}

#[test]
fn a_collector_with_the_wrong_certificate_gets_nothing_and_the_reason_is_told() {
    apart("a_collector_with_the_wrong_certificate_gets_nothing_and_the_reason_is_told", || {
        let dir = tempfile::tempdir().expect("a folder");
        certificates(dir.path());
        let strict = "streamDriver.name=\"ossl\" streamDriver.mode=\"1\" streamDriver.authMode=\"x509/name\" permittedPeer=[\"bastion.test\"]";
        let address = "127.0.0.1:6514";
        let good = tls(dir.path());
        let refused = |failure: Failure, words: &str| match failure {
            Failure::Refused(text) => assert!(text.contains(words), "{text}"),
            Failure::Lost(text) | Failure::Unwanted(text) => panic!("should be told as a refusal: {text}"),
        };
        {
            let _collector = Rsyslog::start(dir.path(), &input("imtcp", 6514, strict));
            refused(refusal(address, &Tls { name: Some("other.test".to_owned()), ..good.clone() }), "another name");
            refused(refusal(address, &Tls { ca: dir.path().join("stranger.pem"), ..good.clone() }), "authority");
            // no certificate of ours: GnuTLS and OpenSSL differ in how they say so
            let failure = refusal(address, &Tls { certificate: None, key: None, ..good.clone() });
            assert!(!failure.to_string().is_empty());
            refused(refusal(address, &Tls { ca: dir.path().join("absent.pem"), ..good.clone() }), "absent.pem");
            refused(
                refusal(address, &Tls { ca: dir.path().join("ca.key"), ..good.clone() }),
                "expected certificates in PEM",
            );
        }
        for (server, words) in [("expired", "expired"), ("strange", "authority")] {
            for end in ["pem", "key"] {
                std::fs::copy(dir.path().join(format!("{server}.{end}")), dir.path().join(format!("server.{end}")))
                    .expect("copied");
            }
            // the certificate is valid until the second it was made
            std::thread::sleep(Duration::from_millis(1100));
            let _collector = Rsyslog::start(dir.path(), &input("imtcp", 6514, strict));
            refused(refusal(address, &good), words);
        }
    });
}
