use super::*;
use crate::demo::World;
use crate::files::{FileState, SnapshotFiles};
use crate::snapshot;

fn names(inventory: &Inventory) -> Vec<&str> {
    inventory.flows.iter().map(|flow| flow.name.as_str()).collect()
}

/// The lab's bastion with more files.
fn lab(files: &[(&str, &str)]) -> Inventory {
    let mut all = World::Before.files();
    for (name, text) in files {
        all.files.insert((*name).to_owned(), FileState::Present(text.as_bytes().to_vec()));
    }
    inventory(&snapshot::read(all))
}

fn flow<'a>(inventory: &'a Inventory, words: &str) -> &'a Flow {
    let found = inventory.flows.iter().find(|flow| flow.name.contains(words));
    found.unwrap_or_else(|| panic!("no {words:?} in {:#?}", names(inventory)))
}

#[test]
fn the_labs_inventory_is_what_its_files_point_to() {
    let inventory = lab(&[]);
    let expected = [
        "SSH in (tcp/22, ipv4)",
        "tcp/22 in from 203.0.113.7",
        "tcp/22 out to 10.0.1.30",
        "Calico datastore (Kubernetes API) (tcp/6443) to 10.0.1.20",
        "DNS to the stub resolver 127.0.0.53 (udp/53)",
        "DNS to the stub resolver 127.0.0.53 (tcp/53)",
        "DNS out (udp/53) to 10.0.0.2",
        "DNS out (tcp/53) to 10.0.0.2",
        "DHCP out (udp/67) on ens5",
        "DHCP renewal (udp/67) to 10.0.1.1 on ens5",
        "DHCP answer in (udp/68) from 10.0.1.1 on ens5",
        "path MTU: fragmentation needed (icmp) in from 10.0.1.1",
        "tcp/179 in from 10.0.1.20",
        "tcp/179 in from 10.0.1.30",
        "tcp/179 in from 10.0.1.31",
    ];
    let names = names(&inventory);
    assert_eq!(names.iter().take(expected.len()).copied().collect::<Vec<_>>(), expected);
    assert!(names.iter().skip(expected.len()).all(|name| name.starts_with("failsafe ")), "{names:#?}");
    assert_eq!(inventory.left_out, 0);
    let ssh = &inventory.flows[0].packet;
    assert_eq!((ssh.iif.as_deref(), ssh.dst.to_string().as_str()), (Some("ens5"), "10.0.1.10"));
}

#[test]
fn without_facts_there_are_no_flows() {
    assert_eq!(inventory(&Snapshot::default()), Inventory::default());
}

#[test]
fn a_lease_has_clock_times() {
    let inventory = lab(&[]);
    let lease = flow(&inventory, "DHCP renewal");
    let when: Vec<&str> = lease.clock.iter().map(|moment| moment.what.as_str()).collect();
    assert_eq!(lease.timer, Some("lease"));
    assert!(!when.is_empty() && lease.clock.is_sorted_by_key(|moment| &moment.at), "{:?}", lease.clock);
}

#[test]
fn services_point_to_whom_they_need() {
    let inventory = lab(&[
        ("caller.txt", "SSH_CONNECTION=203.0.113.7 51522 10.0.1.10 22\n"),
        ("etc/ssh/sshd_config", "Port 2222\n"),
        ("etc/rsyslog.d/50-siem.conf", "*.* @@10.0.9.9:6514\n*.* @logs.example\n"),
        ("etc/hosts", "10.0.9.8 nas\n"),
        ("mounts.txt", "nas:/srv /srv nfs4 rw 0 0\n"),
        ("etc/chrony/chrony.conf", "pool ntp.example iburst\nserver 169.254.169.123\n"),
        ("dmi.txt", "sys_vendor=Amazon EC2\n"),
        ("etc/bird/bird.cfg", "protocol bfd {\n}\nneighbor 10.0.1.40 as 1;\n"),
        ("felix/kubeconfig", "clusters:\n- cluster:\n    server: https://10.0.1.21:6443\n"),
    ]);
    assert_eq!(flow(&inventory, "your SSH session").kind, FlowKind::Caller);
    assert!(!names(&inventory).contains(&"tcp/22 in from 203.0.113.7"), "the session is told once");
    for (words, source) in [
        ("SSH in (tcp/2222, ipv4)", "etc/ssh/sshd_config:1"),
        ("logs of rsyslog (tcp/6514) to 10.0.9.9", "etc/rsyslog.d/50-siem.conf:1"),
        ("nfs4 mount /srv (tcp/2049) to 10.0.9.8", "mounts.txt:1"),
        ("time (udp/123) to 169.254.169.123", "etc/chrony/chrony.conf:2"),
        ("Amazon EC2 metadata (tcp/80)", "dmi.txt:1"),
        ("BGP (tcp/179) to 10.0.1.40", "etc/bird/bird.cfg:3"),
        ("BFD (udp/3784) in from 10.0.1.40", "etc/bird/bird.cfg:1"),
        ("(Kubernetes API) (tcp/6443) to 10.0.1.21", "felix/kubeconfig:3"),
    ] {
        assert_eq!(flow(&inventory, words).source, source, "{words}");
    }
    let unresolved: Vec<&str> = inventory.unresolved.iter().map(|one| one.host.as_str()).collect();
    assert_eq!(unresolved, ["ntp.example", "logs.example"]);
}

#[test]
fn the_way_to_the_siem_is_a_flow_that_must_work() {
    let text = "[[forward]]\nname = \"siem\"\ntransport = \"relp\"\naddress = \"10.0.9.9:2514\"\n\
        [[forward]]\nname = \"search\"\ntransport = \"elasticsearch\"\nurl = \"http://search.example\"\n\
        [[forward]]\nname = \"here\"\ntransport = \"file\"\npath = \"/x\"\n";
    let config = crate::config::read(&std::sync::Arc::from("hepguard.toml"), text.as_bytes()).expect("sound");
    let mut snapshot = snapshot::read(World::Before.files());
    snapshot.outputs = config.collectors();
    let inventory = inventory(&snapshot);
    let found = flow(&inventory, "findings to siem (tcp/2514) to 10.0.9.9");
    assert_eq!((found.kind, found.source.as_str()), (FlowKind::Siem, "hepguard.toml:1"));
    assert!(inventory.unresolved.iter().any(|one| one.host == "search.example" && one.name.contains("tcp/80")));
}

#[test]
fn what_is_exported_is_protected_when_read_back() {
    let before = lab(&[]);
    let entries = export(&before.flows);
    let text = crate::config::write(&entries);
    let config = crate::config::read(&std::sync::Arc::from("flows.toml"), text.as_bytes()).expect("sound");
    let mut snapshot = snapshot::read(World::Before.files());
    snapshot.protect = config.protect;
    let after = inventory(&snapshot);
    let protected = |packet: &Packet| {
        after.flows.iter().any(|flow| {
            flow.kind == FlowKind::Protect && flow.packet.dport == packet.dport && flow.packet.dst == packet.dst
        })
    };
    let ssh = flow(&before, "tcp/22 out to 10.0.1.30");
    assert!(protected(&ssh.packet), "{:#?}", names(&after));
}

#[test]
fn an_inventory_is_bounded_and_says_what_it_leaves_out() {
    let mut files = SnapshotFiles::default();
    for name in ["ip-addr.json", "ip-route.json"] {
        let bytes = World::Before.files().bytes(name).expect("the lab has it").to_vec();
        files.files.insert(name.to_owned(), FileState::Present(bytes));
    }
    let sockets: String =
        (0..300).map(|n| format!("tcp ESTAB 0 0 10.0.1.10:40000 10.9.{}.{}:443\n", n / 200, n % 200)).collect();
    files.files.insert("sockets.txt".to_owned(), FileState::Present(sockets.into_bytes()));
    let inventory = inventory(&snapshot::read(files));
    assert!(inventory.flows.len() <= MAX_FLOWS && inventory.left_out > 200, "{}", inventory.left_out);
}

#[test]
fn calicos_bgp_peers_are_routing_peers() {
    let peer = |name: &str, spec: &str| {
        format!("---\napiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
    };
    let peers = [
        peer("tor", "peerIP: 10.0.1.77, asNumber: 64512"),
        peer("odd", "peerIP: '10.0.1.78:1790', nodeSelector: all()"),
        peer("other", "peerIP: 10.0.1.79, node: worker9"),
        peer("some", "peerIP: 10.0.1.80, nodeSelector: rack == 'a'"),
        peer("me", "peerIP: 10.0.1.10"),
    ];
    let inventory = lab(&[("calico/bgp.yaml", &peers.concat())]);
    let tor = flow(&inventory, "BGP (tcp/179) to 10.0.1.77");
    assert_eq!((tor.kind, tor.source.as_str()), (FlowKind::Routing, "calico/bgp.yaml:5"));
    assert_eq!(flow(&inventory, "BGP (tcp/1790) to 10.0.1.78").packet.dport, Some(1790));
    for not_ours in ["10.0.1.79", "10.0.1.80", "to 10.0.1.10"] {
        assert!(!names(&inventory).iter().any(|name| name.contains(not_ours)), "{not_ours}");
    }
}

#[test]
fn a_protected_network_is_judged_where_rules_treat_it_apart() {
    let text = "[[protect]]\nname = \"jobs\"\ndirection = \"out\"\nproto = \"tcp\"\nport = 22\n\
                peers = [\"10.0.1.0/24\", \"192.0.2.200\"]\n";
    let config = crate::config::read(&std::sync::Arc::from("hepguard.toml"), text.as_bytes()).expect("a configuration");
    let snapshot = Snapshot { protect: config.protect, ..snapshot::read(World::Before.files()) };
    let inventory = inventory(&snapshot);
    let protected: Vec<&str> =
        inventory.flows.iter().filter(|flow| flow.kind == FlowKind::Protect).map(|flow| flow.name.as_str()).collect();
    for wanted in ["to 10.0.1.0/24)", "to 10.0.1.30/32)", "to 192.0.2.200/32)"] {
        assert!(protected.iter().any(|name| name.contains(wanted)), "{wanted}: {protected:?}");
    }
}
