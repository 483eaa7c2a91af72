use super::*;
use crate::packet::Protocol;

fn source() -> Arc<str> {
    Arc::from("ip.json")
}

#[test]
fn addresses_and_links_are_one_list() {
    let addr = br#"[{},{"ifindex":2,"ifname":"eth0","flags":["BROADCAST","UP"],"link_type":"ether","addr_info":[
        {"family":"inet","local":"10.0.1.10","prefixlen":24,"broadcast":"10.0.1.255","scope":"global","dynamic":true},
        {"family":"inet6","local":"fe80::1","prefixlen":64,"scope":"link"}]}]"#;
    let link = br#"[{"ifindex":2,"ifname":"eth0","master":"br0","linkinfo":{"info_kind":"veth"}},
        {"ifindex":1,"ifname":"lo","flags":["LOOPBACK"],"group":"default","link_type":"loopback"},
        {"ifindex":3,"ifname":"eth1","group":"7"},{"ifindex":4,"ifname":"eth2","group":"uplinks"}]"#;
    let mut all = interfaces(&source(), addr).value;
    for more in interfaces(&source(), link).value {
        merge(&mut all, more);
    }
    let [eth0, lo, eth1, eth2] = all.as_slice() else { panic!("four interfaces, not {all:?}") };
    assert_eq!([eth0, lo, eth1, eth2].map(|one| one.group), [None, Some(0), Some(7), None]);
    assert_eq!((&*eth0.name, eth0.index, eth0.up, eth0.loopback), ("eth0", 2, true, false));
    assert_eq!((&*eth0.kind, eth0.master.as_deref()), ("veth", Some("br0")));
    assert_eq!(eth0.addresses.len(), 2);
    let first = eth0.addresses.first().expect("two addresses");
    assert_eq!((first.address.to_string().as_str(), first.prefix_length, first.dynamic), ("10.0.1.10", 24, true));
    assert_eq!(first.broadcast, "10.0.1.255".parse().ok());
    assert!(lo.loopback && !lo.up);
}

#[test]
fn routes_of_both_families() {
    let text = br#"[{"type":"unreachable","dst":"9.9.9.9","table":"77","flags":[]},
        {"dst":"default","gateway":"10.0.1.1","dev":"eth0","protocol":"dhcp","prefsrc":"10.0.1.10","metric":100,"flags":[]},
        {"dst":"10.88.0.0/16","flags":[],"nexthops":[{"gateway":"10.9.0.2","dev":"d0","weight":1,"flags":[]},
         {"gateway":"10.9.0.3","dev":"d1","weight":1,"flags":[]}]},
        {"dst":"1.2.3.0/24","via":{"family":"inet6","host":"fe80::5"},"dev":"d0","flags":[]},
        {"dst":"5.0.0.0/8","dev":"down0","flags":["dead","linkdown"]},
        {"type":"local","dst":"10.0.1.10","dev":"eth0","table":"local","flags":[]}]
        [{"dst":"default","dev":"tun0","metric":1024,"flags":[],"pref":"medium"},
         {"dst":"default","gateway":"fe80::1","dev":"eth0","table":"vrf-mgmt","flags":[]}]"#;
    let mut tables = TableNumbers::default();
    let read = routes(&source(), text, &mut tables);
    let texts: Vec<String> = read
        .value
        .iter()
        .map(|r| {
            let more = !r.more_devices.is_empty();
            format!("{:?} {} table {} multi {more} via {:?}", r.kind, r.destination, r.table, r.gateway)
        })
        .collect();
    assert_eq!(
        texts,
        [
            "Unreachable 9.9.9.9/32 table 77 multi false via None",
            "Unicast 0.0.0.0/0 table 254 multi false via Some(10.0.1.1)",
            "Unicast 10.88.0.0/16 table 254 multi true via Some(10.9.0.2)",
            "Unicast 1.2.3.0/24 table 254 multi false via Some(fe80::5)",
            "Local 10.0.1.10/32 table 255 multi false via None",
            "Unicast ::/0 table 254 multi false via None",
            "Unicast ::/0 table 4294967295 multi false via Some(fe80::1)",
        ]
    );
    assert_eq!(tables.number("vrf-mgmt"), u32::MAX, "the same name is the same table in rules");
    assert!(read.diagnostics.iter().any(|remark| remark.message.contains("1 dead")));
}

#[test]
fn rules_keep_what_they_cannot_say() {
    let text = br#"[{"priority":0,"src":"all","table":"local"},
        {"priority":89,"src":"all","tos":"0x10","uid_start":0,"uid_end":10,"table":"5"},
        {"priority":90,"src":"all","ipproto":"tcp","sport_start":10,"sport_end":20,"dport":22,"goto":32766},
        {"priority":100,"not":null,"src":"all","dst":"10.1.0.1","iif":"d0","iif_detached":null,"action":"blackhole"},
        {"priority":101,"src":"all","nop":null},{"priority":102,"src":"all","l3mdev":null},
        {"priority":103,"src":"all","table":"main","suppress_ifgroup":"3"},
        {"priority":32765,"src":"10.0.0.0","srclen":8,"fwmark":"0x10","fwmask":"0xff","suppress_prefixlen":0,"table":"77"},
        {"priority":32766,"src":"all","table":"main"},{"priority":32767,"src":"all","table":"default"}]"#;
    let read = rules(&source(), text, &mut TableNumbers::default());
    let by = |priority| read.value.iter().find(|rule| rule.priority == priority).expect("listed");
    assert_eq!((by(0).ipv6, by(0).table()), (None, Some(255)), "the standard three stand for both families");
    assert_eq!((by(89).table(), by(89).ipv6), (Some(5), Some(false)));
    assert_eq!((by(89).tos, by(89).uids), (Some(0x10), Some((0, 10))));
    assert_eq!((&by(90).action, by(90).protocol), (&RuleAction::Goto(32766), Some(Protocol::TCP)));
    assert_eq!((by(90).sports, by(90).dports), (Some((10, 20)), Some((22, 22))));
    assert!(by(100).inverted && by(100).action == RuleAction::End(RouteKind::Blackhole));
    assert_eq!((&by(101).action, &by(102).action), (&RuleAction::Nop, &RuleAction::Opaque("l3mdev".into())));
    assert!(by(102).l3mdev);
    assert_eq!(by(103).other.as_deref(), Some("suppress_ifgroup \"3\""));
    assert_eq!(by(32765).suppress_prefix_length, Some(0));
    assert_eq!(by(32765).mark, Some((0x10, 0xff)));
    assert_eq!(by(32765).source, "10.0.0.0/8".parse().ok());
}

#[test]
fn two_rule_listings_are_ipv4_then_ipv6() {
    let text = br#"[{"priority":0,"src":"all","table":"local"},{"priority":10,"src":"all","fwmark":"0x1","table":"7"}]
        [{"priority":0,"src":"all","table":"local"}]"#;
    let read = rules(&source(), text, &mut TableNumbers::default());
    let families: Vec<_> = read.value.iter().map(|rule| (rule.priority, rule.ipv6)).collect();
    assert_eq!(families, [(0, Some(false)), (0, Some(true)), (10, Some(false))]);
}

#[test]
fn a_cut_listing_gives_what_stands_before_the_cut() {
    let read = interfaces(&source(), br#"[{"ifname":"lo"},{"ifname":"eth0","flags":["#);
    assert_eq!(read.value.len(), 1);
    let remark = read.diagnostics.first().expect("one remark");
    assert_eq!((remark.level, remark.line), (Level::Error, 1));
    assert!(remark.column > 30, "{remark}");
}

#[test]
fn one_bad_element_costs_only_itself() {
    let text = b"[{\"ifname\":\"lo\"},\n {\"ifindex\":3},\n 7, {\"ifname\":\"a\",\"addr_info\":[{\"local\":\"x\"}]}, {\"ifname\":\"b\"}]";
    let read = interfaces(&source(), text);
    assert_eq!(read.value.iter().map(|i| &*i.name).collect::<Vec<_>>(), ["lo", "b"]);
    let places: Vec<_> = read.diagnostics.iter().map(|d| (d.line, d.column)).collect();
    assert_eq!(places, [(2, 2), (3, 2), (3, 5)]);
}

#[test]
fn garbage_is_an_error_and_nothing_else() {
    for garbage in [&b""[..], b"\xff\xfe\x00", b"Object \"x\" is unknown", b"{}", b"[[[[[["] {
        let read = routes(&source(), garbage, &mut TableNumbers::default());
        assert!(read.value.is_empty());
        assert!(read.diagnostics.iter().any(|remark| remark.level == Level::Error), "{garbage:?}");
    }
}
