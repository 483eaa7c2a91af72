//! Random rulesets, reproducible from their seed, drawn from words that matter in the lab.

mod iptables;
mod ipset;
mod nft;

pub(crate) use iptables::{iptables, opaque_iptables};
pub(crate) use nft::{nft, opaque_nft};

use fastrand::Rng;

/// Type of service of packets that random rulesets take out of tracking before anything else.
pub(crate) const UNTRACKED_TOS: u8 = 0x04;

/// Words rules are made of: few enough that rules and packets meet.
struct Words {
    rng: Rng,
    ipv4: bool,
    seed: u64,
    /// With conditions that nobody can decide.
    opaque: bool,
}

impl Words {
    fn new(seed: u64, ipv4: bool) -> Self {
        Self { rng: Rng::with_seed(seed), ipv4, seed, opaque: false }
    }

    /// True once in `n` times.
    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(..n) == 0
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.rng.usize(..words.len())]
    }

    fn address(&mut self) -> String {
        let words: &[&str] = match self.ipv4 {
            true => &[
                "10.0.1.10",
                "10.0.1.10",
                "10.0.1.11",
                "192.168.7.10",
                "172.17.0.1",
                "10.20.3.4",
                "10.20.77.1",
                "10.0.1.77",
                "192.168.7.33",
                "172.17.0.2",
                "10.65.0.2",
                "198.51.100.9",
                "203.0.113.70",
                "10.7.9.1",
            ],
            false => &[
                "fd00:1::10",
                "fd00:1::10",
                "fd00:7::10",
                "fd00:17::1",
                "fd00:20::304",
                "fd00:20:77::1",
                "fd00:1::77",
                "fd00:7::33",
                "fd00:17::2",
                "fd00:65::2",
                "fd00:51::9",
                "2001:db8:113:40::1",
                "fd00:a7:9::1",
            ],
        };
        self.pick(words).to_owned()
    }

    /// A prefix of any useful length, as tools like it: with its host bits.
    fn prefix(&mut self) -> String {
        let lengths: &[&str] = match self.ipv4 {
            true => &["8", "12", "16", "16", "20", "24", "24", "27", "31", "32", "32"],
            false => &["12", "16", "32", "32", "48", "64", "64", "120", "127", "128", "128"],
        };
        format!("{}/{}", self.address(), self.pick(lengths))
    }

    /// Two addresses in order, on one link.
    fn range(&mut self) -> String {
        let base = self.pick(if self.ipv4 {
            &["10.0.1.", "192.168.7.", "172.17.0.", "10.20.3.", "198.51.100."]
        } else {
            &["fd00:1::", "fd00:7::", "fd00:17::", "fd00:20::", "fd00:51::"]
        });
        let (low, high) = (self.rng.u32(..90), self.rng.u32(90..=255));
        if self.ipv4 { format!("{base}{low}-{base}{high}") } else { format!("{base}{low:x}-{base}{high:x}") }
    }

    fn port(&mut self) -> u16 {
        let known = [22, 22, 53, 80, 443, 1000, 1023, 1024, 2379, 6443, 8080, 8443, 9090, 32_768, 65_535];
        known[self.rng.usize(..known.len())]
    }

    /// Low and high end, never equal.
    fn port_range(&mut self) -> (u16, u16) {
        let low = self.rng.u16(..40_000);
        (low, low + self.rng.u16(1..20_000))
    }

    fn mark(&mut self) -> u32 {
        let known = [0, 1, 2, 3, 0x10, 0xff, 0x10000, 0x20000, 0x30000, 0x40000, 0xffff_0000];
        known[self.rng.usize(..known.len())]
    }

    fn mask(&mut self) -> u32 {
        let known = [u32::MAX, u32::MAX, 0x10000, 0x20000, 0x30000, 0xff, 0xffff, 1];
        known[self.rng.usize(..known.len())]
    }

    fn device(&mut self) -> &'static str {
        self.pick(&["lo", "ens5", "ens5", "eth1", "docker0", "cali0a1b2c3d4e5"])
    }

    fn transport(&mut self) -> &'static str {
        self.pick(&["tcp", "tcp", "tcp", "udp", "udp", "sctp"])
    }
}
