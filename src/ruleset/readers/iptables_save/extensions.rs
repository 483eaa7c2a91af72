//! The matches and targets iptables has, with their options: spelling, canonical spelling, number of values.
//! From the tools' own `--help` (1.4 to 1.8.11) and the xtables-addons manual.

use crate::ruleset::OpaqueKind;

/// How a match or target is lowered into the model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    /// By its own code.
    Exact,
    /// Known, not decidable from the packet's header fields.
    Opaque(OpaqueKind),
    /// A target that changes nothing about which packets are accepted.
    Harmless,
}

/// One match or target.
#[derive(Debug)]
pub(crate) struct Extension {
    /// Its name after `-m` or `-j`.
    pub(crate) name: &'static str,
    /// See [`Meaning`].
    pub(crate) meaning: Meaning,
    /// Its options.
    pub(crate) options: &'static [Opt],
}

/// Spelling without dashes, canonical spelling, values.
type Opt = (&'static str, &'static str, u8);

/// An option of an extension as it was resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Resolved {
    /// Canonical spelling without dashes.
    pub(crate) name: &'static str,
    /// Values that follow.
    pub(crate) values: u8,
}

impl Extension {
    /// The option spelled `word` (without dashes), exactly.
    pub(crate) fn option(&self, word: &[u8]) -> Option<Resolved> {
        self.options.iter().find(|one| one.0.as_bytes() == word).map(|one| Resolved { name: one.1, values: one.2 })
    }

    /// The one option that starts with `word`, as getopt_long(3) allows.
    pub(crate) fn abbreviated(&self, word: &[u8]) -> Option<Resolved> {
        let mut found: Option<Resolved> = None;
        for one in self.options.iter().filter(|one| one.0.as_bytes().starts_with(word)) {
            match found {
                Some(other) if other.name != one.1 => return None,
                _ => found = Some(Resolved { name: one.1, values: one.2 }),
            }
        }
        found
    }
}

/// The match called `name`.
pub(crate) fn match_named(name: &[u8]) -> Option<&'static Extension> {
    let name = if name == b"ipv6-icmp" || name == b"icmpv6" { b"icmp6" } else { name };
    MATCHES.iter().find(|one| one.name.as_bytes() == name)
}

/// The target called `name`.
pub(crate) fn target_named(name: &[u8]) -> Option<&'static Extension> {
    TARGETS.iter().find(|one| one.name.as_bytes() == name)
}

const fn exact(name: &'static str, options: &'static [Opt]) -> Extension {
    Extension { name, meaning: Meaning::Exact, options }
}

const fn property(name: &'static str, options: &'static [Opt]) -> Extension {
    Extension { name, meaning: Meaning::Opaque(OpaqueKind::Property), options }
}

const fn stateful(name: &'static str, options: &'static [Opt]) -> Extension {
    Extension { name, meaning: Meaning::Opaque(OpaqueKind::Stateful), options }
}

const fn harmless(name: &'static str, options: &'static [Opt]) -> Extension {
    Extension { name, meaning: Meaning::Harmless, options }
}

/// An option with one value and one spelling.
const fn one(name: &'static str) -> Opt {
    (name, name, 1)
}

/// In [`Resolved::values`]: one value, or none when another option follows.
pub(crate) const OPTIONAL: u8 = u8::MAX;

/// An option whose value may be left out.
const fn maybe(name: &'static str) -> Opt {
    (name, name, OPTIONAL)
}

/// An option without values.
const fn flag(name: &'static str) -> Opt {
    (name, name, 0)
}

const SPORT: Opt = one("sport");
const SPORT_LONG: Opt = ("source-port", "sport", 1);
const DPORT: Opt = one("dport");
const DPORT_LONG: Opt = ("destination-port", "dport", 1);

/// Every match.
pub(crate) static MATCHES: &[Extension] = &[
    exact("comment", &[one("comment")]),
    exact(
        "tcp",
        &[SPORT, SPORT_LONG, DPORT, DPORT_LONG, ("tcp-flags", "tcp-flags", 2), flag("syn"), one("tcp-option")],
    ),
    exact("udp", &[SPORT, SPORT_LONG, DPORT, DPORT_LONG]),
    exact("udplite", &[SPORT, SPORT_LONG, DPORT, DPORT_LONG]),
    exact("sctp", &[SPORT, SPORT_LONG, DPORT, DPORT_LONG, ("chunk-types", "chunk-types", 2)]),
    exact("dccp", &[SPORT, SPORT_LONG, DPORT, DPORT_LONG, one("dccp-types"), one("dccp-option")]),
    exact(
        "multiport",
        &[
            one("sports"),
            ("source-ports", "sports", 1),
            one("dports"),
            ("destination-ports", "dports", 1),
            one("ports"),
        ],
    ),
    exact("mark", &[one("mark")]),
    exact("connmark", &[one("mark")]),
    exact(
        "set",
        &[
            ("match-set", "match-set", 2),
            ("set", "match-set", 2),
            flag("return-nomatch"),
            flag("update-counters"),
            flag("update-subcounters"),
            one("packets-eq"),
            one("packets-lt"),
            one("packets-gt"),
            one("bytes-eq"),
            one("bytes-lt"),
            one("bytes-gt"),
        ],
    ),
    exact(
        "conntrack",
        &[
            one("ctstate"),
            one("ctstatus"),
            one("ctproto"),
            one("ctorigsrc"),
            one("ctorigdst"),
            one("ctreplsrc"),
            one("ctrepldst"),
            one("ctorigsrcport"),
            one("ctorigdstport"),
            one("ctreplsrcport"),
            one("ctrepldstport"),
            one("ctexpire"),
            one("ctdir"),
        ],
    ),
    exact("state", &[("state", "ctstate", 1)]),
    exact("icmp", &[one("icmp-type")]),
    exact("icmp6", &[one("icmpv6-type")]),
    exact("addrtype", &[one("src-type"), one("dst-type"), flag("limit-iface-in"), flag("limit-iface-out")]),
    exact("iprange", &[one("src-range"), one("dst-range")]),
    exact(
        "owner",
        &[
            one("uid-owner"),
            one("gid-owner"),
            flag("suppl-groups"),
            flag("socket-exists"),
            one("pid-owner"),
            one("sid-owner"),
            one("cmd-owner"),
        ],
    ),
    exact("pkttype", &[one("pkt-type")]),
    exact("mac", &[one("mac-source")]),
    exact("length", &[one("length")]),
    exact("ttl", &[one("ttl-eq"), ("ttl", "ttl-eq", 1), one("ttl-lt"), one("ttl-gt")]),
    exact("hl", &[one("hl-eq"), ("hl", "hl-eq", 1), one("hl-lt"), one("hl-gt")]),
    exact("dscp", &[one("dscp"), one("dscp-class")]),
    exact("tos", &[one("tos")]),
    exact("ecn", &[one("ecn-ip-ect"), flag("ecn-tcp-cwr"), flag("ecn-tcp-ece")]),
    exact("rpfilter", &[flag("loose"), flag("validmark"), flag("accept-local"), flag("invert")]),
    exact("devgroup", &[one("src-group"), one("dst-group")]),
    exact("socket", &[flag("transparent"), flag("nowildcard"), flag("restore-skmark")]),
    stateful("limit", &[one("limit"), one("limit-burst")]),
    stateful(
        "hashlimit",
        &[
            one("hashlimit"),
            one("hashlimit-upto"),
            one("hashlimit-above"),
            one("hashlimit-burst"),
            one("hashlimit-mode"),
            one("hashlimit-name"),
            one("hashlimit-srcmask"),
            one("hashlimit-dstmask"),
            one("hashlimit-htable-size"),
            one("hashlimit-htable-max"),
            one("hashlimit-htable-gcinterval"),
            one("hashlimit-htable-expire"),
            flag("hashlimit-rate-match"),
            one("hashlimit-rate-interval"),
        ],
    ),
    stateful(
        "recent",
        &[
            flag("set"),
            flag("rcheck"),
            flag("update"),
            flag("remove"),
            one("seconds"),
            flag("reap"),
            one("hitcount"),
            flag("rttl"),
            one("name"),
            flag("rsource"),
            flag("rdest"),
            one("mask"),
        ],
    ),
    stateful("statistic", &[one("mode"), one("probability"), one("every"), one("packet")]),
    stateful("nth", &[one("every"), one("counter"), one("start"), one("packet")]),
    stateful("random", &[one("average")]),
    stateful("quota", &[one("quota")]),
    stateful("quota2", &[one("quota"), one("name"), flag("grow"), flag("change"), flag("no-change"), flag("packets")]),
    stateful(
        "connlimit",
        &[
            one("connlimit-upto"),
            one("connlimit-above"),
            one("connlimit-mask"),
            flag("connlimit-saddr"),
            flag("connlimit-daddr"),
        ],
    ),
    stateful("connbytes", &[one("connbytes"), one("connbytes-dir"), one("connbytes-mode")]),
    stateful("nfacct", &[one("nfacct-name")]),
    stateful(
        "rateest",
        &[
            one("rateest"),
            one("rateest1"),
            one("rateest2"),
            maybe("rateest-bps"),
            maybe("rateest-bps1"),
            maybe("rateest-bps2"),
            maybe("rateest-pps"),
            maybe("rateest-pps1"),
            maybe("rateest-pps2"),
            flag("rateest-delta"),
            flag("rateest-lt"),
            flag("rateest-gt"),
            flag("rateest-eq"),
        ],
    ),
    stateful("condition", &[one("condition")]),
    stateful("fuzzy", &[one("lower-limit"), one("upper-limit")]),
    stateful(
        "psd",
        &[
            one("psd-weight-threshold"),
            one("psd-delay-threshold"),
            one("psd-lo-ports-weight"),
            one("psd-hi-ports-weight"),
        ],
    ),
    stateful("lscan", &[flag("stealth"), flag("synscan"), flag("cnscan"), flag("mirai"), flag("grscan")]),
    property("string", &[one("string"), one("hex-string"), one("algo"), one("from"), one("to"), flag("icase")]),
    property("bpf", &[one("bytecode"), one("object-pinned")]),
    property("u32", &[one("u32")]),
    exact(
        "time",
        &[
            one("datestart"),
            one("datestop"),
            one("timestart"),
            one("timestop"),
            one("monthdays"),
            one("weekdays"),
            flag("kerneltz"),
            flag("contiguous"),
            flag("utc"),
            flag("localtz"),
        ],
    ),
    exact(
        "policy",
        &[
            one("dir"),
            ("pol", "pol", 1),
            ("policy", "pol", 1),
            flag("strict"),
            one("reqid"),
            one("spi"),
            one("tunnel-src"),
            one("tunnel-dst"),
            one("proto"),
            one("mode"),
            flag("next"),
        ],
    ),
    exact(
        "physdev",
        &[
            one("physdev-in"),
            one("physdev-out"),
            flag("physdev-is-in"),
            flag("physdev-is-out"),
            flag("physdev-is-bridged"),
        ],
    ),
    exact("cgroup", &[one("cgroup"), one("path")]),
    property(
        "cluster",
        &[
            one("cluster-total-nodes"),
            one("cluster-local-node"),
            one("cluster-local-nodemask"),
            one("cluster-hash-seed"),
        ],
    ),
    property("connlabel", &[one("label"), flag("set")]),
    property("cpu", &[one("cpu")]),
    property("helper", &[one("helper")]),
    property(
        "ipvs",
        &[flag("ipvs"), one("vproto"), one("vaddr"), one("vport"), one("vdir"), one("vmethod"), one("vportctl")],
    ),
    property("osf", &[one("genre"), one("ttl"), one("log")]),
    property("realm", &[one("realm")]),
    exact("tcpmss", &[one("mss")]),
    exact("ah", &[one("ahspi"), one("ahlen"), flag("ahres")]),
    exact("esp", &[one("espspi")]),
    exact("ipcomp", &[one("ipcompspi"), flag("compres")]),
    property("l2tp", &[one("pversion"), one("tid"), one("sid"), one("type")]),
    exact(
        "rt",
        &[
            one("rt-type"),
            one("rt-segsleft"),
            one("rt-len"),
            flag("rt-0-res"),
            one("rt-0-addrs"),
            flag("rt-0-not-strict"),
        ],
    ),
    exact(
        "frag",
        &[one("fragid"), one("fraglen"), flag("fragres"), flag("fragfirst"), flag("fragmore"), flag("fraglast")],
    ),
    exact("hbh", &[one("hbh-len"), one("hbh-opts"), flag("hbh-not-strict")]),
    exact("dst", &[one("dst-len"), one("dst-opts"), flag("dst-not-strict")]),
    exact("mh", &[one("mh-type")]),
    exact(
        "srh",
        &[
            one("srh-next-hdr"),
            one("srh-hdr-len-eq"),
            one("srh-hdr-len-gt"),
            one("srh-hdr-len-lt"),
            one("srh-segs-left-eq"),
            one("srh-segs-left-gt"),
            one("srh-segs-left-lt"),
            one("srh-last-entry-eq"),
            one("srh-last-entry-gt"),
            one("srh-last-entry-lt"),
            one("srh-tag"),
            one("srh-psid"),
            one("srh-nsid"),
            one("srh-lsid"),
        ],
    ),
    exact("ipv6header", &[one("header"), flag("soft")]),
    exact("eui64", &[]),
    property("unclean", &[]),
    property(
        "geoip",
        &[
            ("src-cc", "src-cc", 1),
            ("source-country", "src-cc", 1),
            ("dst-cc", "dst-cc", 1),
            ("destination-country", "dst-cc", 1),
        ],
    ),
    property("asn", &[one("src-asn"), one("dst-asn")]),
    property("ipv4options", &[one("flags"), flag("any")]),
    property("iface", &[one("iface"), flag("dev-in"), flag("dev-out"), flag("up"), flag("down")]),
];

/// Every target.
pub(crate) static TARGETS: &[Extension] = &[
    exact("ACCEPT", &[]),
    exact("DROP", &[]),
    exact("RETURN", &[]),
    exact("QUEUE", &[]),
    exact("NFQUEUE", &[one("queue-num"), one("queue-balance"), flag("queue-bypass"), flag("queue-cpu-fanout")]),
    exact("REJECT", &[one("reject-with")]),
    exact("MARK", &[one("set-xmark"), one("set-mark"), one("and-mark"), one("or-mark"), one("xor-mark")]),
    exact(
        "CONNMARK",
        &[
            one("set-xmark"),
            one("set-mark"),
            one("and-mark"),
            one("or-mark"),
            one("xor-mark"),
            flag("save-mark"),
            flag("restore-mark"),
            one("nfmask"),
            one("ctmask"),
            one("mask"),
            one("left-shift-mark"),
            one("right-shift-mark"),
        ],
    ),
    exact(
        "LOG",
        &[
            one("log-prefix"),
            one("log-level"),
            flag("log-tcp-sequence"),
            flag("log-tcp-options"),
            flag("log-ip-options"),
            flag("log-uid"),
            flag("log-macdecode"),
        ],
    ),
    exact(
        "NFLOG",
        &[one("nflog-group"), one("nflog-prefix"), one("nflog-range"), one("nflog-size"), one("nflog-threshold")],
    ),
    exact("ULOG", &[one("ulog-nlgroup"), one("ulog-prefix"), one("ulog-cprange"), one("ulog-qthreshold")]),
    exact("NOTRACK", &[]),
    exact(
        "CT",
        &[
            flag("notrack"),
            one("helper"),
            one("ctevents"),
            one("expevents"),
            one("zone"),
            one("zone-orig"),
            one("zone-reply"),
            one("timeout"),
        ],
    ),
    exact("TOS", &[one("set-tos"), one("and-tos"), one("or-tos"), one("xor-tos")]),
    exact("DSCP", &[one("set-dscp"), one("set-dscp-class")]),
    exact("TTL", &[one("ttl-set"), one("ttl-inc"), one("ttl-dec")]),
    exact("HL", &[one("hl-set"), one("hl-inc"), one("hl-dec")]),
    exact("DNAT", &[one("to-destination"), flag("random"), flag("persistent")]),
    exact("SNAT", &[one("to-source"), flag("random"), flag("random-fully"), flag("persistent")]),
    exact("MASQUERADE", &[one("to-ports"), flag("random"), flag("random-fully")]),
    exact("REDIRECT", &[one("to-ports"), flag("random")]),
    exact("NETMAP", &[one("to")]),
    exact("TPROXY", &[one("on-port"), one("on-ip"), one("tproxy-mark")]),
    exact("SYNPROXY", &[flag("sack-perm"), flag("timestamp"), one("wscale"), one("mss"), flag("ecn")]),
    exact(
        "SET",
        &[
            ("add-set", "add-set", 2),
            ("del-set", "del-set", 2),
            ("map-set", "map-set", 2),
            flag("exist"),
            one("timeout"),
            flag("map-mark"),
            flag("map-prio"),
            flag("map-queue"),
        ],
    ),
    exact(
        "HMARK",
        &[
            one("hmark-tuple"),
            one("hmark-mod"),
            one("hmark-offset"),
            one("hmark-src-prefix"),
            one("hmark-dst-prefix"),
            one("hmark-sport"),
            one("hmark-dport"),
            one("hmark-sport-mask"),
            one("hmark-dport-mask"),
            one("hmark-spi"),
            one("hmark-spi-mask"),
            one("hmark-proto-mask"),
            one("hmark-rnd"),
        ],
    ),
    exact(
        "CLUSTERIP",
        &[flag("new"), one("hashmode"), one("clustermac"), one("total-nodes"), one("local-node"), one("hash-init")],
    ),
    exact("DNPT", &[one("src-pfx"), one("dst-pfx")]),
    exact("SNPT", &[one("src-pfx"), one("dst-pfx")]),
    harmless("TRACE", &[]),
    exact("TCPMSS", &[one("set-mss"), flag("clamp-mss-to-pmtu")]),
    exact("TCPOPTSTRIP", &[one("strip-options")]),
    harmless("CLASSIFY", &[one("set-class")]),
    harmless("CHECKSUM", &[flag("checksum-fill")]),
    exact("ECN", &[flag("ecn-tcp-remove"), one("ecn-tcp-cwr"), one("ecn-tcp-ece"), one("ecn-ip-ect")]),
    harmless("SECMARK", &[one("selctx")]),
    harmless("CONNSECMARK", &[flag("save"), flag("restore")]),
    harmless("AUDIT", &[one("type")]),
    harmless("IDLETIMER", &[one("timeout"), one("label"), flag("alarm"), flag("send_nl_msg")]),
    harmless("RATEEST", &[one("rateest-name"), one("rateest-interval"), one("rateest-ewmalog")]),
    harmless("LED", &[one("led-trigger-id"), one("led-delay"), flag("led-always-blink")]),
    harmless("TEE", &[one("gateway"), one("oif")]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_abbreviations_are_not_ambiguous() {
        for table in [MATCHES, TARGETS] {
            for (index, one) in table.iter().enumerate() {
                assert!(table.iter().skip(index + 1).all(|other| other.name != one.name), "{}", one.name);
            }
        }
        let dnat = target_named(b"DNAT").expect("known");
        assert_eq!(dnat.abbreviated(b"to-dest").map(|option| option.name), Some("to-destination"));
        let set = match_named(b"set").expect("known");
        assert_eq!(set.abbreviated(b"update"), None, "two options start so");
    }
}
