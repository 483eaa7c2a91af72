//! Names nft prints instead of numbers.

/// Numbers and their names.
#[derive(Debug)]
pub(crate) struct Names {
    /// Number and name; the first name of a number is the one printed.
    pub(crate) list: &'static [(u128, &'static str)],
    /// Width of the value in bits.
    pub(crate) bits: u32,
    /// Whether values are sets of bits, several names together.
    pub(crate) flags: bool,
    /// How a number without a name is printed.
    pub(crate) hex: bool,
    /// Whether names are printed in quotes.
    pub(crate) quoted: bool,
}

impl Names {
    const fn values(bits: u32, list: &'static [(u128, &'static str)]) -> Self {
        Self { list, bits, flags: false, hex: false, quoted: false }
    }

    const fn bit_names(bits: u32, list: &'static [(u128, &'static str)]) -> Self {
        Self { list, bits, flags: true, hex: true, quoted: false }
    }

    const fn hex(bits: u32, list: &'static [(u128, &'static str)]) -> Self {
        Self { list, bits, flags: false, hex: true, quoted: false }
    }

    /// The number called `name`.
    pub(crate) fn number(&self, name: &str) -> Option<u128> {
        self.list.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
    }

    /// The name of `number`.
    pub(crate) fn name(&self, number: u128) -> Option<&'static str> {
        self.list.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
    }
}

pub(crate) static CT_STATE: Names =
    Names::bit_names(32, &[(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")]);
pub(crate) static CT_STATUS: Names = Names::bit_names(
    32,
    &[(1, "expected"), (2, "seen-reply"), (4, "assured"), (8, "confirmed"), (16, "snat"), (32, "dnat"), (512, "dying")],
);
pub(crate) static CT_EVENT: Names = Names::bit_names(
    32,
    &[
        (1, "new"),
        (2, "related"),
        (4, "destroy"),
        (8, "reply"),
        (16, "assured"),
        (32, "protoinfo"),
        (64, "helper"),
        (128, "mark"),
        (256, "seqadj"),
        (512, "secmark"),
        (1024, "label"),
    ],
);
pub(crate) static CT_DIRECTION: Names = Names::values(8, &[(0, "original"), (1, "reply")]);
pub(crate) static NFPROTO: Names =
    Names::values(8, &[(2, "ipv4"), (10, "ipv6"), (1, "inet"), (3, "arp"), (5, "netdev"), (7, "bridge")]);
pub(crate) static TCP_FLAGS: Names = Names::bit_names(
    8,
    &[(1, "fin"), (2, "syn"), (4, "rst"), (8, "psh"), (16, "ack"), (32, "urg"), (64, "ecn"), (128, "cwr")],
);
pub(crate) static PKTTYPE: Names =
    Names::values(8, &[(0, "host"), (1, "broadcast"), (2, "multicast"), (3, "other"), (0, "unicast")]);
pub(crate) static FIB_TYPE: Names = Names::values(
    32,
    &[
        (0, "unspec"),
        (1, "unicast"),
        (2, "local"),
        (3, "broadcast"),
        (4, "anycast"),
        (5, "multicast"),
        (6, "blackhole"),
        (7, "unreachable"),
        (8, "prohibit"),
    ],
);
pub(crate) static ECN: Names = Names::values(2, &[(0, "not-ect"), (1, "ect1"), (2, "ect0"), (3, "ce")]);
pub(crate) static DSCP: Names = Names::hex(
    6,
    &[
        (0, "cs0"),
        (8, "cs1"),
        (16, "cs2"),
        (24, "cs3"),
        (32, "cs4"),
        (40, "cs5"),
        (48, "cs6"),
        (56, "cs7"),
        (0, "df"),
        (0, "be"),
        (1, "lephb"),
        (10, "af11"),
        (12, "af12"),
        (14, "af13"),
        (18, "af21"),
        (20, "af22"),
        (22, "af23"),
        (26, "af31"),
        (28, "af32"),
        (30, "af33"),
        (34, "af41"),
        (36, "af42"),
        (38, "af43"),
        (44, "va"),
        (46, "ef"),
    ],
);
pub(crate) static ETHER_TYPE: Names = Names::hex(
    16,
    &[
        (0x0800, "ip"),
        (0x0806, "arp"),
        (0x86dd, "ip6"),
        (0x8100, "8021q"),
        (0x88a8, "8021ad"),
        (0x8100, "vlan"),
        (0x8864, "ppp_ses"),
    ],
);
pub(crate) static DEVICE_TYPE: Names = Names::values(
    16,
    &[
        (1, "ether"),
        (512, "ppp"),
        (768, "ipip"),
        (769, "ipip6"),
        (772, "loopback"),
        (776, "sit"),
        (778, "ipgre"),
        (0xfffe, "none"),
    ],
);
pub(crate) static DEVICE_GROUP: Names =
    Names { list: &[(0, "default")], bits: 32, flags: false, hex: false, quoted: true };
pub(crate) static IGMP_TYPE: Names = Names::values(
    8,
    &[
        (0x11, "membership-query"),
        (0x12, "membership-report-v1"),
        (0x16, "membership-report-v2"),
        (0x22, "membership-report-v3"),
        (0x17, "leave-group"),
    ],
);
pub(crate) static ARP_OPERATION: Names = Names::values(
    16,
    &[(1, "request"), (2, "reply"), (3, "rrequest"), (4, "rreply"), (8, "inrequest"), (9, "inreply"), (10, "nak")],
);
pub(crate) static BOOLEAN: Names = Names::values(8, &[(1, "exists"), (0, "missing")]);
pub(crate) static MH_TYPE: Names = Names::values(
    8,
    &[
        (0, "binding-refresh-request"),
        (1, "home-test-init"),
        (2, "careof-test-init"),
        (3, "home-test"),
        (4, "careof-test"),
        (5, "binding-update"),
        (6, "binding-acknowledgement"),
        (7, "binding-error"),
        (8, "fast-binding-update"),
        (9, "fast-binding-acknowledgement"),
        (10, "fast-binding-advertisement"),
        (11, "experimental-mobility-header"),
        (12, "home-agent-switch-message"),
    ],
);
pub(crate) static MPTCP_SUBTYPE: Names = Names::values(
    4,
    &[
        (0, "mp-capable"),
        (1, "mp-join"),
        (2, "dss"),
        (3, "add-addr"),
        (4, "remove-addr"),
        (5, "mp-prio"),
        (6, "mp-fail"),
        (7, "mp-fastclose"),
        (8, "mp-tcprst"),
    ],
);
pub(crate) static DCCP_TYPE: Names = Names::values(
    4,
    &[
        (0, "request"),
        (1, "response"),
        (2, "data"),
        (3, "ack"),
        (4, "dataack"),
        (5, "closereq"),
        (6, "close"),
        (7, "reset"),
        (8, "sync"),
        (9, "syncack"),
    ],
);
pub(crate) static ICMP_TYPE: Names = Names::values(
    8,
    &[
        (0, "echo-reply"),
        (3, "destination-unreachable"),
        (4, "source-quench"),
        (5, "redirect"),
        (8, "echo-request"),
        (9, "router-advertisement"),
        (10, "router-solicitation"),
        (11, "time-exceeded"),
        (12, "parameter-problem"),
        (13, "timestamp-request"),
        (14, "timestamp-reply"),
        (15, "info-request"),
        (16, "info-reply"),
        (17, "address-mask-request"),
        (18, "address-mask-reply"),
    ],
);
pub(crate) static ICMP_CODE: Names = Names::values(
    8,
    &[
        (0, "net-unreachable"),
        (1, "host-unreachable"),
        (2, "prot-unreachable"),
        (3, "port-unreachable"),
        (4, "frag-needed"),
        (9, "net-prohibited"),
        (10, "host-prohibited"),
        (13, "admin-prohibited"),
    ],
);
pub(crate) static ICMP6_TYPE: Names = Names::values(
    8,
    &[
        (1, "destination-unreachable"),
        (2, "packet-too-big"),
        (3, "time-exceeded"),
        (4, "parameter-problem"),
        (128, "echo-request"),
        (129, "echo-reply"),
        (130, "mld-listener-query"),
        (131, "mld-listener-report"),
        (132, "mld-listener-done"),
        (132, "mld-listener-reduction"),
        (133, "nd-router-solicit"),
        (134, "nd-router-advert"),
        (135, "nd-neighbor-solicit"),
        (136, "nd-neighbor-advert"),
        (137, "nd-redirect"),
        (138, "router-renumbering"),
        (141, "ind-neighbor-solicit"),
        (142, "ind-neighbor-advert"),
        (143, "mld2-listener-report"),
    ],
);
pub(crate) static ICMP6_CODE: Names = Names::values(
    8,
    &[
        (0, "no-route"),
        (1, "admin-prohibited"),
        (3, "addr-unreachable"),
        (4, "port-unreachable"),
        (5, "policy-fail"),
        (6, "reject-route"),
    ],
);
/// Services that listings of old tools name; newer ones print numbers.
pub(crate) static SERVICES: Names = Names::values(
    16,
    &[
        (20, "ftp-data"),
        (21, "ftp"),
        (22, "ssh"),
        (23, "telnet"),
        (25, "smtp"),
        (53, "domain"),
        (67, "bootps"),
        (68, "bootpc"),
        (69, "tftp"),
        (80, "http"),
        (88, "kerberos"),
        (110, "pop3"),
        (111, "sunrpc"),
        (123, "ntp"),
        (137, "netbios-ns"),
        (138, "netbios-dgm"),
        (139, "netbios-ssn"),
        (143, "imap2"),
        (161, "snmp"),
        (162, "snmp-trap"),
        (179, "bgp"),
        (389, "ldap"),
        (443, "https"),
        (445, "microsoft-ds"),
        (514, "syslog"),
        (514, "shell"),
        (546, "dhcpv6-client"),
        (547, "dhcpv6-server"),
        (587, "submission"),
        (636, "ldaps"),
        (853, "domain-s"),
        (993, "imaps"),
        (995, "pop3s"),
        (1812, "radius"),
        (2049, "nfs"),
        (2379, "etcd-client"),
        (2380, "etcd-server"),
        (3306, "mysql"),
        (5353, "mdns"),
        (5432, "postgresql"),
        (6514, "syslog-tls"),
        (8080, "http-alt"),
    ],
);
