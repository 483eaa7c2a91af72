//! What is fuzzed: one function per reader of outside text, and some for what is built on them. Each takes any bytes and
//! panics only where hepguard is wrong. Shared by the fuzzer (`tests/fuzz/libfuzzer`) and by `tests/fuzz_corpus.rs`,
//! which replays the corpora without one.

mod calico;
mod felix;
mod firewall;
mod folder;
mod host;
mod logs;
mod packet;
mod whole;

/// A fuzz target.
pub(crate) struct Target {
    /// Its name, and its corpus' below `tests/fuzz/corpus`.
    pub(crate) name: &'static str,
    /// Takes one input.
    pub(crate) run: fn(&[u8]),
}

macro_rules! targets {
    ($($room:ident :: $name:ident),* $(,)?) => {
        /// All of them.
        pub(crate) const ALL: &[Target] = &[$(Target { name: stringify!($name), run: $room::$name }),*];
    };
}

targets![
    firewall::iptables_save,
    firewall::iptables_print,
    firewall::nft_json,
    firewall::ipset_save,
    firewall::merge,
    firewall::integrity,
    host::ip_json,
    host::sockets,
    host::conntrack,
    host::sysctl,
    host::programs,
    host::services,
    felix::felix_env,
    felix::felix_cfg,
    felix::felix_unit,
    felix::felix_datastore,
    felix::felix_values,
    felix::secrets,
    felix::config,
    calico::resources,
    calico::selector,
    packet::packet_words,
    packet::packet_json,
    logs::log_line,
    logs::log_blocks,
    logs::log_filters,
    whole::kind,
    whole::snapshot,
    whole::trace,
    whole::conversation,
    whole::reach,
    whole::audit,
];
