use super::*;

#[test]
fn the_contracts_example_reads() {
    let line = br#"{"dir":"in","proto":"tcp","src":"203.0.113.7","sport":51522,"dst":"10.0.1.10","dport":22,"iif":"ens5","state":"new","mark":0}"#;
    let asked = from_json(line).expect("the example");
    let mut spec = PacketSpec::new("in", "tcp", "203.0.113.7:51522", "10.0.1.10:22").expect("the words");
    spec.iif = Some("ens5".to_owned());
    let packet = spec.build().expect("a packet");
    assert_eq!((&asked.packet, asked.at), (&packet, None));
    assert_eq!(packet.tcp_flags, TcpFlags::SYN);
    assert_eq!(packet.to_string(), "in tcp 203.0.113.7:51522 10.0.1.10:22 -i ens5");
}

#[test]
fn endpoints_of_both_families() {
    let read = |text| endpoint("source", text).map(|(address, port)| (address.to_string(), port));
    assert_eq!(read("2001:db8::1"), Ok(("2001:db8::1".to_owned(), None)));
    assert_eq!(read("[2001:db8::1]:22"), Ok(("2001:db8::1".to_owned(), Some(22))));
    assert_eq!(read("[2001:db8::1]"), Ok(("2001:db8::1".to_owned(), None)));
    assert_eq!(read("10.0.1.10:0"), Ok(("10.0.1.10".to_owned(), Some(0))));
    for bad in ["10.0.1", "10.0.1.10:", "10.0.1.10:65536", "[2001:db8::1]22", "[2001:db8::1", "host:22", "", ":"] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn defaults_follow_state_and_protocol() {
    let build = |protocol: &str, state, dst: &str| {
        let src = if dst.contains(':') { "2001:db8::2" } else { "10.0.0.2" };
        let mut spec = PacketSpec::new("in", protocol, src, dst).expect("words");
        spec.state = state;
        spec.build().expect("a packet")
    };
    assert_eq!(build("tcp", Some(CtState::ESTABLISHED), "10.0.0.1").tcp_flags, TcpFlags::ACK);
    assert_eq!(build("icmp", None, "10.0.0.1").icmp, Some((8, 0)));
    let v6 = build("icmp", None, "2001:db8::1");
    assert_eq!((v6.protocol, v6.icmp), (Protocol::ICMPV6, Some((128, 0))));
    assert_eq!(build("icmp", Some(CtState::RELATED), "10.0.0.1").icmp, None);
}

#[test]
fn contradictions_are_refused() {
    let spec = |direction: &str, protocol: &str, dst: &str| PacketSpec::new(direction, protocol, "10.0.0.2", dst);
    assert!(spec("in", "icmp", "10.0.0.1:22").expect("words").build().is_err());
    assert!(spec("in", "tcp", "::1").expect("words").build().is_err());
    assert!(spec("inward", "tcp", "10.0.0.1").is_err());
    assert!(spec("in", "tcpp", "10.0.0.1").is_err());
    let mut owned = spec("in", "tcp", "10.0.0.1").expect("words");
    owned.uid = Some(0);
    assert!(owned.build().is_err());
    let mut out = spec("in", "udp", "10.0.0.1").expect("words");
    out.oif = Some("ens5".to_owned());
    assert!(out.build().is_err());
}

#[test]
fn bad_lines_say_what_is_wrong() {
    for (line, part) in [
        ("{", "not JSON"),
        ("[]", "object"),
        (r#"{"dir":"in","proto":"tcp","src":"10.0.0.1"}"#, "dst is missing"),
        (r#"{"dir":"in","proto":"tcp","src":"10.0.0.1","dst":"10.0.0.2","prot":1}"#, "\"prot\""),
        (r#"{"dir":"in","proto":"tcp","src":"10.0.0.1","dst":"10.0.0.2","dport":70000}"#, "16 bits"),
        (r#"{"dir":"in","proto":"tcp","src":"10.0.0.1:9","dst":"10.0.0.2"}"#, "sport and dport"),
        (r#"{"dir":"in","proto":"tcp","src":"10.0.0.1","dst":"10.0.0.2","at":"ingress"}"#, "prerouting"),
        (r#"{"dir":"in","proto":"tcp","src":"10.0.0.1","dst":"10.0.0.2","iif":"a b"}"#, "15 bytes"),
        (r#"{"dir":"in","proto":"tcp","src":"10.0.0.1","dst":"10.0.0.2","ttl":-1}"#, "8 bits"),
        (r#"{"dir":"in","proto":"tcp","src":"10.0.0.1","dst":"10.0.0.2","mac_src":"0:1:2:3:4:5"}"#, "hardware address"),
        (r#"{"dir":"in","proto":"tcp","src":"10.0.0.1","dst":"10.0.0.2","transport":"00"}"#, "at least 20 bytes"),
        (r#"{"dir":"in","proto":"tcp","src":"10.0.0.1","dst":"10.0.0.2","transport":"0g"}"#, "hexadecimal"),
        (
            r#"{"dir":"in","proto":"icmp","src":"10.0.0.1","dst":"10.0.0.2","icmp_type":3,"transport":"08000000"}"#,
            "different",
        ),
        (r#"{"dir":"in","proto":"tcp","src":"10.0.0.1","dst":"10.0.0.2","groups":[1]}"#, "owner"),
        (r#"{"dir":"out","proto":"tcp","src":"10.0.0.1","dst":"10.0.0.2","groups":[-1]}"#, "list of numbers"),
        (r#"{"dir":"out","proto":"tcp","src":"10.0.0.1","dst":"10.0.0.2","cgroup":"x"}"#, "path"),
        (r#"{"dir":"in","proto":"tcp","src":"10.0.0.1","dst":"10.0.0.2","time":"8:30"}"#, "moment"),
        (r#"{"dir":"in","proto":"tcp","src":"::1","dst":"::2","ext_headers":[{"header":6,"bytes":""}]}"#, "header 0"),
        (r#"{"dir":"in","proto":"tcp","src":"::1","dst":"::2","ext_headers":[{"header":43,"bytes":"00"}]}"#, "8 bytes"),
    ] {
        let error = from_json(line.as_bytes()).expect_err(line).to_string();
        assert!(error.contains(part), "{line}: {error}");
    }
}

#[test]
fn lines_round_trip() {
    for line in [
        r#"{"dir":"out","proto":"udp","src":"fd00::1","dst":"fd00::2","dport":53,"uid":0,"gid":7,"ttl":64,"tos":16}"#,
        r#"{"dir":"forward","proto":"icmp","src":"10.0.0.1","dst":"10.0.0.2","icmp_type":3,"icmp_code":4,"state":"related","pkttype":"host","length":84}"#,
        r#"{"dir":"in","proto":89,"src":"10.0.0.1","dst":"10.0.0.2","mark":"0x10000","ct_mark":5,"ct_status":"confirmed,dnat","ct_direction":"reply","state":"established"}"#,
        r#"{"dir":"out","proto":"esp","src":"fd00::1","dst":"fd00::2","mac_dst":"00:11:22:33:44:aa","ext_headers":[{"header":43,"bytes":"3200040000000000"}],"transport":"0000000500000001","groups":[4,27],"cgroup":"/system.slice","classid":65537,"time":"2026-01-31T08:30:00Z","ipsec":true}"#,
    ] {
        let once = from_json(line.as_bytes()).expect(line).packet;
        let again = from_json(to_json(&once).to_string().as_bytes()).expect("our own line").packet;
        assert_eq!(once, again);
    }
}
