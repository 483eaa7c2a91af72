//! The lab's default deny on a worker with an automatic host endpoint: without the platform's policies, and with them.

use std::path::Path;

use hepguard::calico::predict::{Knowledge, Situation, predict};
use hepguard::collect;
use hepguard::packet::Family;
use hepguard::ruleset::{Ruleset, print};
use hepguard::snapshot;
use serde_json::{Value, json};

use crate::{about, copy_folder, path};

/// Kubelet, metrics and SSH listen for everybody, in both families where they can.
const SOCKETS: &str = "\
udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:* users:((\"systemd-resolve\",pid=511,fd=12))
tcp LISTEN 0 128 127.0.0.53%lo:53 0.0.0.0:* users:((\"systemd-resolve\",pid=511,fd=13))
tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=812,fd=3))
tcp LISTEN 0 128 *:10250 *:* users:((\"kubelet\",pid=900,fd=3))
tcp LISTEN 0 128 *:9091 *:* users:((\"calico-node\",pid=901,fd=3))
tcp ESTAB 0 0 10.0.1.30:49822 10.0.1.20:6443 users:((\"kubelet\",pid=900,fd=11))
tcp ESTAB 0 0 10.0.1.30:49823 10.0.1.20:6443 users:((\"calico-node\",pid=901,fd=11))
tcp ESTAB 0 0 10.0.1.30:22 203.0.113.7:51522 users:((\"sshd\",pid=21877,fd=4))
";

/// The worker under no policy: everything of Felix's as it renders it.
fn worker(folder: &Path) -> String {
    copy_folder(Path::new(&path("src/demo/before")), folder);
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("written");
    for name in ["ip-addr.json", "ip-route.json", "ip-link.json", "ip-rule.json", "meta.json"] {
        let text = std::fs::read_to_string(folder.join(name)).expect("the lab's");
        let text = text.replace("10.0.1.10", "10.0.1.30").replace("\"bastion\"", "\"ip-10-0-1-30\"");
        write(name, &text);
    }
    for name in ["calico", "felix"] {
        std::fs::remove_dir_all(folder.join(name)).expect("removed");
        std::fs::create_dir(folder.join(name)).expect("made");
    }
    std::fs::remove_file(folder.join("conntrack.txt")).expect("removed");
    let environment = "FELIX_DATASTORETYPE=kubernetes\nFELIX_FELIXHOSTNAME=ip-10-0-1-30\nKUBECONFIG=/etc/kubeconfig\n";
    write("felix/calico.env", environment);
    write("calico/cluster.yaml", &std::fs::read_to_string(path("tests/plan/node/cluster.yaml")).expect("the cluster"));
    write("sockets.txt", SOCKETS);
    let read = || snapshot::read(collect::saved(folder).expect("a snapshot"));
    let empty = read();
    let (known, nothing) = (Knowledge::of(&empty.files), Ruleset::default());
    let written = predict(&Situation { ruleset: &nothing, host: &empty.host, known: &known }, &known);
    assert!(written.rendered_whole && written.unknown.is_empty(), "{:?}", written.unknown);
    for (family, name) in [(Family::Ipv4, "iptables-legacy-save.txt"), (Family::Ipv6, "ip6tables-legacy-save.txt")] {
        let tables = written.ruleset.tables.iter().filter(|table| table.family == family);
        let text: String = tables.map(|table| print::iptables::table(table).expect("a listing")).collect();
        write(name, &text);
    }
    write("ipset-save.txt", "");
    folder.display().to_string()
}

/// The plan of the lab's default deny, with what comes before it.
fn deny(more: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let host = worker(&folder.path().join("host"));
    let files: Vec<String> =
        ["default-deny"].iter().chain(more).map(|name| path(&format!("tests/plan/node/{name}.yaml"))).collect();
    let change: Vec<&str> = files.iter().flat_map(|file| ["-f", file]).collect();
    crate::json(&host, &change, 1)
}

/// The flows in a state, by name.
fn named<'p>(plan: &'p Value, state: &str) -> Vec<&'p str> {
    let all = plan["protected"].as_array().expect("protected flows");
    all.iter().filter(|flow| flow["state"] == state).filter_map(|flow| flow["name"].as_str()).collect()
}

/// All of these are told with this code: by which rule, with a packet to try, and what to do.
fn told(plan: &Value, code: &str, flows: &[&str]) {
    for flow in flows {
        let finding = about(plan, code, flow);
        let evidence = finding["evidence"].as_array().expect("evidence");
        let by = |words: &str| evidence.iter().filter_map(|one| one["text"].as_str()).any(|text| text.contains(words));
        assert!(by("Drop if no policies passed packet") && by("admits it now"), "{finding:#}");
        assert!(finding["witness"]["dst"].is_string(), "{finding:#}");
        let fix = finding["fix"].as_str().expect("a fix");
        assert!(fix.contains("admit"), "{finding:#}");
    }
}

#[test]
fn a_default_deny_alone_cuts_what_nodes_need() {
    let plan = deny(&[]);
    assert_eq!(plan["fidelity"]["rules"], plan["fidelity"]["verified"], "{:#}", plan["fidelity"]);
    assert_eq!(plan["limits"], json!([]), "all is known");
    let lost = [
        "kubelet (tcp/10250) in from 10.0.1.20",
        "Felix's metrics (tcp/9091) in from 10.0.1.20",
        "127.0.0.1 to itself (tcp/22)",
        "::1 to itself (tcp/10250)",
        "10.0.1.30 to itself (tcp/22)",
        "DNS to the stub resolver 127.0.0.53 (udp/53)",
        "DNS to the stub resolver 127.0.0.53 (tcp/53)",
        "DNS out (tcp/53) to 10.0.0.2",
    ];
    told(&plan, "HG251", &lost);
    assert_eq!(plan["verdict"], "risky", "the failsafe list keeps the way in");
    let masked = [
        "SSH in (tcp/22, ipv4)",
        "tcp/22 in from 203.0.113.7",
        "DNS out (udp/53) to 10.0.0.2",
        "Calico datastore (Kubernetes API) (tcp/6443) to 10.0.1.20",
    ];
    told(&plan, "HG252", &masked);
}

#[test]
fn the_platforms_policies_leave_the_labs_own_gaps() {
    let plan = deny(&["platform"]);
    let kept = named(&plan, "kept");
    for flow in [
        "kubelet (tcp/10250) in from 10.0.1.20",
        "127.0.0.1 to itself (tcp/22)",
        "DNS to the stub resolver 127.0.0.53 (udp/53)",
        "DNS to the stub resolver 127.0.0.53 (tcp/53)",
    ] {
        assert!(kept.contains(&flow), "{flow} is kept: {:#}", plan["protected"]);
    }
    let gaps = [
        "DNS out (tcp/53) to 10.0.0.2",
        "Felix's metrics (tcp/9091) in from 10.0.1.20",
        "::1 to itself (tcp/10250)",
        "10.0.1.30 to itself (tcp/22)",
    ];
    told(&plan, "HG251", &gaps);
    assert_eq!(named(&plan, "lost").len(), gaps.len(), "{:#?}", named(&plan, "lost"));
    // pods may be behind the selectors, too: that is said, and opens no flow of the node's own
    assert_eq!(named(&plan, "unknown"), Vec::<&str>::new());
    assert!(plan["limits"].to_string().contains("has(node-role.kubernetes.io/control-plane)"), "{:#}", plan["limits"]);
}
