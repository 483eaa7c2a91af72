//! How fast each reader of a listing is, and what a rule takes in memory: `cargo bench --bench readers`.
//!
//! Prints cpu-bound rates (best of five) of one thread, and bytes kept per rule between 1,000 and 50,000 rules.

mod bastion;
#[path = "../fuzz/memory.rs"]
mod memory;

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use hepguard::analysis::trace::Engine;
use hepguard::calico::settings::envfile;
use hepguard::host;
use hepguard::packet::Family;
use hepguard::ruleset::readers::{ipset_save, iptables_save, nft_json};
use hepguard::ruleset::{Backend, Ruleset};

#[global_allocator]
static MEMORY: memory::Counting = memory::Counting::new();

fn source() -> Arc<str> {
    Arc::from("bench")
}

/// A chain of rules as scripts write them.
fn flat(rules: usize) -> String {
    let mut text = String::from("*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n");
    for n in 0..rules {
        let (a, b, port) = (n / 250 % 250, n % 250, 1024 + n % 60_000);
        let _ = writeln!(text, "[0:0] -A INPUT -s 10.{a}.{b}.0/24 -p tcp -m tcp --dport {port} -j ACCEPT");
    }
    text + "COMMIT\n"
}

/// The same as nft lists it.
fn listed(rules: usize) -> String {
    let mut text = String::from(
        "{\"nftables\": [{\"metainfo\": {\"version\": \"1.0.6\", \"json_schema_version\": 1}}, {\"table\": {\"family\": \
         \"ip\", \"name\": \"t\", \"handle\": 1}}, {\"chain\": {\"family\": \"ip\", \"table\": \"t\", \"name\": \"in\", \
         \"handle\": 1, \"type\": \"filter\", \"hook\": \"input\", \"prio\": 0, \"policy\": \"drop\"}}",
    );
    for n in 0..rules {
        let (a, b, port) = (n / 250 % 250, n % 250, 1024 + n % 60_000);
        let _ = write!(
            text,
            ", {{\"rule\": {{\"family\": \"ip\", \"table\": \"t\", \"chain\": \"in\", \"handle\": {n}, \"expr\": [{{\"match\": \
             {{\"op\": \"==\", \"left\": {{\"payload\": {{\"protocol\": \"ip\", \"field\": \"saddr\"}}}}, \"right\": \
             {{\"prefix\": {{\"addr\": \"10.{a}.{b}.0\", \"len\": 24}}}}}}}}, {{\"match\": {{\"op\": \"==\", \"left\": \
             {{\"payload\": {{\"protocol\": \"tcp\", \"field\": \"dport\"}}}}, \"right\": {port}}}}}, {{\"accept\": null}}]}}}}"
        );
    }
    text + "]}"
}

/// IPv4 rules as Felix writes them.
fn felix(rules: usize) -> Vec<u8> {
    bastion::files(2 * rules, 10).remove("iptables-legacy-save.txt").expect("the listing")
}

/// Best of five in seconds.
fn best<T>(mut work: impl FnMut() -> T) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        black_box(work());
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

fn rules_of(read: impl Fn() -> Ruleset) -> usize {
    read().rule_count()
}

#[allow(clippy::print_stdout, reason = "a benchmark")]
fn rate<T>(name: &str, text: &[u8], unit: &str, count: usize, read: impl FnMut() -> T) {
    let seconds = best(read);
    #[expect(clippy::cast_precision_loss, reason = "rates")]
    let (size, count) = (text.len() as f64, count as f64);
    println!("| {name} | {:.1} | {:.0} | {:.0} {unit} |", size / 1e6, size / 1e6 / seconds, count / seconds);
}

#[allow(clippy::print_stdout, reason = "a benchmark")]
fn rates() {
    println!("| reader | MB | MB/s | per second |\n|---|---|---|---|");
    let saved = |text: &[u8]| Ruleset {
        tables: iptables_save::read(&source(), text, Backend::IptablesLegacy, Family::Ipv4).value,
        ipsets: Vec::new(),
    };
    let native = |text: &[u8]| Ruleset { tables: nft_json::read(&source(), text).value, ipsets: Vec::new() };
    let (flat, felix, listed) = (flat(50_000).into_bytes(), felix(50_000), listed(50_000).into_bytes());
    rate("iptables-save, flat", &flat, "rules", rules_of(|| saved(&flat)), || saved(&flat));
    rate("iptables-save, Felix", &felix, "rules", rules_of(|| saved(&felix)), || saved(&felix));
    rate("nft -j", &listed, "rules", rules_of(|| native(&listed)), || native(&listed));
    let mut sets = String::from("create s hash:net family inet hashsize 1024 maxelem 1000000\n");
    let mut routes = String::from("[");
    let (mut sockets, mut sessions, mut sysctls, mut environment) = <(String, String, String, String)>::default();
    let count = 100_000;
    for n in 0..count {
        let (a, b, c) = (n >> 16, n >> 8 & 255, n & 255);
        let _ = writeln!(sets, "add s 10.{a}.{b}.{c}");
        let comma = if n == 0 { "" } else { "," };
        let _ = write!(
            routes,
            "{comma}{{\"type\":\"unicast\",\"dst\":\"10.{a}.{b}.{c}\",\"gateway\":\"10.0.0.1\",\"dev\":\"eth0\",\"protocol\":\"bird\",\"scope\":\"global\",\"flags\":[]}}"
        );
        let _ = writeln!(
            sockets,
            "tcp ESTAB 0 0 10.0.1.10:22 10.{a}.{b}.{c}:{} users:((\"sshd\",pid={n},fd=4))",
            1024 + n % 60_000
        );
        let _ = writeln!(
            sessions,
            "ipv4     2 tcp      6 431999 ESTABLISHED src=10.{a}.{b}.{c} dst=10.0.1.10 sport={} dport=22 src=10.0.1.10 dst=10.{a}.{b}.{c} sport=22 dport={} [ASSURED] mark=0 use=1",
            1024 + n % 60_000,
            1024 + n % 60_000
        );
        let _ = writeln!(sysctls, "net.ipv4.conf.cali{n}.rp_filter = 1");
        let _ = writeln!(environment, "FELIX_SETTING{n}=\"value {n}\"");
    }
    routes.push(']');
    rate("ipset save", sets.as_bytes(), "members", count, || ipset_save::read(&source(), sets.as_bytes()));
    rate("ip -j route", routes.as_bytes(), "routes", count, || {
        host::ip::routes(&source(), routes.as_bytes(), &mut host::ip::TableNumbers::default())
    });
    rate("ss -H -tuanp", sockets.as_bytes(), "sockets", count, || host::sockets::read(&source(), sockets.as_bytes()));
    rate("conntrack -L", sessions.as_bytes(), "sessions", count, || {
        host::conntrack::read(&source(), sessions.as_bytes())
    });
    rate("sysctl", sysctls.as_bytes(), "lines", count, || host::sysctl::read(&source(), sysctls.as_bytes()));
    rate("calico.env", environment.as_bytes(), "variables", count, || {
        envfile::systemd(&source(), environment.as_bytes())
    });
}

/// Bytes kept by the rules and by the engine over them, and most while reading.
#[allow(clippy::print_stdout, reason = "a benchmark")]
fn memory() {
    println!(
        "\n| rules | kept per rule | with the engine | peak per rule while reading | listing per rule |\n|---|---|---|---|---|"
    );
    let host = host::Host::default();
    let row = |name: &str, text: &[u8], read: &dyn Fn(&[u8]) -> Ruleset| {
        let before = MEMORY.live();
        let (ruleset, peak) = MEMORY.peak_of(|| read(text));
        let kept = MEMORY.live() - before;
        let engine = Engine::new(&ruleset, &host);
        let ready = MEMORY.live() - before;
        let rules = ruleset.rule_count();
        println!(
            "| {name}, {rules} | {} | {} | {} | {} |",
            kept / rules,
            ready / rules,
            peak / rules,
            text.len() / rules
        );
        black_box(&engine);
        (rules, ready)
    };
    let saved = |text: &[u8]| Ruleset {
        tables: iptables_save::read(&source(), text, Backend::IptablesLegacy, Family::Ipv4).value,
        ipsets: Vec::new(),
    };
    let native = |text: &[u8]| Ruleset { tables: nft_json::read(&source(), text).value, ipsets: Vec::new() };
    type Form<'a> = (&'a str, &'a dyn Fn(usize) -> Vec<u8>, &'a dyn Fn(&[u8]) -> Ruleset);
    let forms: [Form<'_>; 3] = [
        ("iptables flat", &|rules| flat(rules).into_bytes(), &saved),
        ("iptables Felix", &felix, &saved),
        ("nft", &|rules| listed(rules).into_bytes(), &native),
    ];
    for (name, text, read) in forms {
        let (few, small) = row(name, &text(1_000), read);
        row(name, &text(10_000), read);
        let (many, large) = row(name, &text(50_000), read);
        println!("| {name}: slope | | {} | | |", (large - small) / (many - few));
    }
}

fn main() {
    // cargo asks every bench for its list when all are run
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    rates();
    memory();
}
