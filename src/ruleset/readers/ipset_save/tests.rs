use super::*;
use crate::diagnostic::MAX_DIAGNOSTICS;
use crate::ruleset::DataType;

fn read_text(text: impl AsRef<[u8]>) -> Parsed<Vec<Set>> {
    read(&Arc::from("ipset-save.txt"), text.as_ref())
}

fn keys(set: &Set) -> Vec<Vec<(u128, u128)>> {
    set.elements.keys().map(|key| key.iter().map(|one| (one.low, one.high)).collect()).collect()
}

fn one(value: u128) -> (u128, u128) {
    (value, value)
}

const TEN: u128 = 10 << 24;

#[test]
fn every_type_the_kernel_listed_is_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/nft-json/ipset-types.ipset-save.txt");
    let parsed = read_text(std::fs::read(path).expect("fixture"));
    let set = |name: &str| parsed.value.iter().find(|set| &*set.name == name).expect("listed");
    let incomplete: Vec<_> = parsed.value.iter().filter(|set| set.incomplete.is_some()).map(|set| &*set.name).collect();
    assert_eq!(incomplete, ["t2b"], "a mask with holes cannot be said in intervals");
    assert_eq!(parsed.diagnostics.len(), 1);

    assert_eq!(keys(set("t1")), [[one(TEN + 2)], [one(TEN + 1)]]);
    assert_eq!(set("t1").elements.extra(0), None);
    let extra = set("t1").elements.extra(1).expect("timeout and comment");
    assert_eq!((extra.expires, extra.comment.as_deref(), extra.stateful), (Some(59), Some("a b"), false));
    assert_eq!(keys(set("t2")), [[(TEN + 0x100, TEN + 0x1ff)]], "netmask widens");
    let any_port = set("t3").elements.extra(0).expect("physdev");
    assert!(any_port.nomatch && any_port.stateful);
    assert_eq!(keys(set("t3"))[2], [(TEN, TEN + 255), one(interface_number(b"eth0"))]);
    assert_eq!(set("t3").key, [DataType::Ipv4Addr, DataType::Ifname]);
    assert_eq!(set("t4").key, [DataType::Ipv4Addr, DataType::InetProto, DataType::InetService]);
    let ports: Vec<_> = keys(set("t4")).iter().map(|key| (key[1].0, key[2].0)).collect();
    let expected = [(1, 8 << 8), (1, 3 << 8 | 1), (136, 7), (6, 80), (47, 0), (112, 0), (132, 5), (200, 0)];
    assert_eq!(ports, expected, "protocol and service");
    assert_eq!(keys(set("t5"))[1][1..], [one(58), one(135 << 8)]);
    assert_eq!(keys(set("t10b")), [[(TEN + 0x300, TEN + 0x3ff)]]);
    assert_eq!(keys(set("t11")), [[one(TEN + 1), (0, 0xffff_ffff_ffff)], [one(TEN + 2), one(0x0102_03aa_bbcc)]]);
    assert_eq!(keys(set("t12")), [[one(6), one(22)], [one(17), one(22)]]);
    assert_eq!((set("t12").family, set("t13").family, set("t18").family), (None, None, Some(Family::Ipv4)));
    assert_eq!(keys(set("t16")), [[one(TEN + 1), one(17), one(1), (TEN, TEN + 255)]]);
    assert!(set("t18").elements.extra(0).is_some_and(|extra| extra.nomatch));
    assert_eq!(keys(set("t19"))[0], [(0xfd << 120, (0xfd << 120) | ((1 << 120) - 1))]);
    assert_eq!(set("t13").member_sets, ["t1".into(), "t2".into()]);
}

#[test]
fn types_this_kernel_lacks_and_hand_written_forms_are_read() {
    let parsed = read_text(
        "create a hash:ip,mark markmask 0xffff0000\nadd a 10.0.0.1,0x120000\n\
         create b hash:mac\nadd b 01:02:03:04:05:06\n\
         create c hash:net,net family inet6\nadd c fd00::/8,::/0\n\
         create d hash:net,port,net\nadd d 10.0.0.0/8,80-81,0.0.0.0/0\n\
         create e hash:ip,mac\nadd e 10.0.0.1-10.0.0.3,00:00:00:00:00:ff\n\
         -N old iphash --hashsize 1024\n-A old 10.0.0.1\nCOMMIT\n# comment\n",
    );
    assert_eq!(parsed.diagnostics, vec![]);
    let all: Vec<_> = parsed.value.iter().flat_map(keys).collect();
    assert_eq!(all[0], [one(TEN + 1), (0x12_0000, 0x12_ffff)]);
    assert_eq!(all[1], [one(0x0102_0304_0506)]);
    assert_eq!(all[2][1], (0, u128::MAX));
    assert_eq!(all[3], [(TEN, TEN + 0xff_ffff), one(6), (80, 81), (0, 0xffff_ffff)]);
    assert_eq!(all[4], [(TEN + 1, TEN + 3), one(255)]);
    assert_eq!(all[5], [one(TEN + 1)]);
}

#[test]
fn what_cannot_be_read_makes_its_set_incomplete_and_is_told() {
    for (text, line) in [
        ("create s hash:ip\nadd s 10.0.0.1\nadd s host.example\n", 3),
        ("create s hash:ip,port\nadd s 10.0.0.1\n", 2),
        ("create s hash:ip\nadd s 10.0.0.1 sometimes\n", 2),
        ("create s hash:unknown\nadd s x\n", 1),
        ("create s hash:ip wildness 3\n", 1),
        ("create s hash:ip\ndel s 10.0.0.1\n", 2),
        ("create s hash:ip\nflush\n", 2),
        ("create s hash:ip comment\nadd s 10.0.0.1 comment \"never ends\nadd s 10.0.0.2\n", 2),
        ("create s hash:ip family inet6\nadd s 10.0.0.1\n", 2),
        ("create s hash:ip,port\nadd s 10.0.0.1,nosuch:80\n", 2),
    ] {
        let parsed = read_text(text);
        assert!(parsed.value[0].incomplete.is_some(), "{text}");
        assert_eq!(parsed.diagnostics[0].line, line, "{text}");
    }
    let lost = read_text("add nowhere 10.0.0.1\n");
    assert_eq!(lost.diagnostics[0].level, Level::Error);
}

#[test]
fn a_comment_cannot_smuggle_elements_in() {
    let parsed = read_text("create s hash:ip comment\nadd s 10.0.0.1 comment \"x\nadd s 10.0.0.2 \"\nadd s 10.0.0.3\n");
    assert_eq!(keys(&parsed.value[0]), [[one(TEN + 1)], [one(TEN + 3)]]);
    assert_eq!(parsed.diagnostics, vec![]);
}

#[test]
fn hostile_input_ends_soon_and_says_little() {
    let mut random = fastrand::Rng::with_seed(7);
    let base =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/nft-json/ipset-types.ipset-save.txt"))
            .expect("fixture");
    for _ in 0..500 {
        let mut text = base.clone();
        for _ in 0..random.usize(1..12) {
            let at = random.usize(..text.len());
            match random.u8(..4) {
                0 => text[at] = random.u8(..),
                1 => text.truncate(at.max(1)),
                2 => text.insert(at, *random.choice(b"\"\n ,:-/").expect("not empty")),
                _ => drop(text.remove(at)),
            }
            if text.is_empty() {
                text.push(0);
            }
        }
        let parsed = read_text(&text);
        assert!(parsed.diagnostics.len() <= MAX_DIAGNOSTICS);
    }
    let mut long = b"create s hash:ip\nadd s ".to_vec();
    long.resize(10 << 20, b'1');
    assert!(read_text(&long).value[0].incomplete.is_some());
    let quotes = "\"\n".repeat(1 << 18);
    let _ = read_text(quotes);
}

/// `cargo test --release -- --ignored set_of_100_000` prints the time.
#[test]
#[ignore = "a measurement, of meaning only in release builds"]
fn a_set_of_100_000_elements_is_read_fast() {
    for count in [100_000u32, 1_000_000] {
        let mut text = "create s hash:net family inet hashsize 1024 maxelem 1048576\n".to_owned();
        for n in 0..count {
            text.push_str(&format!("add s {}/30\n", std::net::Ipv4Addr::from(n << 4)));
        }
        let start = std::time::Instant::now();
        let parsed = read_text(&text);
        let elapsed = start.elapsed();
        assert_eq!(parsed.value[0].elements.len(), count as usize);
        assert!(elapsed.as_millis() < u128::from(count) / 1000, "{count} elements took {elapsed:?}");
    }
}
