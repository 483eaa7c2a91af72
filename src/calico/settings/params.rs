//! Every parameter of open-source Felix: its name, type, default and what a bad value does. One table, so that audit checks ask
//! by name and get a typed answer.
//!
//! As of Felix in August 2026 (v3.34 development); older versions lack some and Calico Enterprise knows more.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::value::Kind;
use Kind::*;

/// A parameter of Felix.
#[derive(Debug, PartialEq, Eq)]
pub struct Param {
    /// Its canonical name; sources may spell it in any letter case.
    pub name: &'static str,
    /// What its values look like.
    pub kind: Kind,
    /// The value compiled in, in the form of a source; empty for "no value".
    pub default: &'static str,
    flags: u8,
}

/// `none` is refused.
const NON_ZERO: u8 = 1;
/// A value that does not parse stops Felix.
const FATAL: u8 = 2;
/// Ignored when it comes from the datastore.
const LOCAL: u8 = 4;

impl Param {
    /// Whether the value `none`, which sets every other parameter to its zero, stops Felix here.
    #[must_use]
    pub fn refuses_none(&self) -> bool {
        self.flags & NON_ZERO != 0
    }

    /// Whether a value that does not parse stops Felix; elsewhere the default takes its place.
    #[must_use]
    pub fn dies_on_bad_value(&self) -> bool {
        self.flags & FATAL != 0
    }

    /// Whether only environment and configuration file count.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.flags & LOCAL != 0
    }
}

/// The parameter called `name`, in any letter case.
#[must_use]
pub fn param(name: &str) -> Option<&'static Param> {
    static INDEX: LazyLock<HashMap<String, &'static Param>> =
        LazyLock::new(|| PARAMS.iter().map(|param| (param.name.to_ascii_lowercase(), param)).collect());
    // no name is longer; hostile ones are not worth a copy
    if name.len() > 64 {
        return None;
    }
    INDEX.get(&name.to_ascii_lowercase()).copied()
}

/// The parameter whose name is nearest to one that Felix does not know: the same letters but for underscores, hyphens and
/// dots, or up to three letters different. `None` when nothing is near.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static Param> {
    let squeeze = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).take(80).collect()
    };
    let wanted = squeeze(name);
    if wanted.is_empty() {
        return None;
    }
    let most = 3.min(wanted.len() / 3);
    let distance = |param: &&Param| edit_distance(wanted.as_bytes(), param.name.to_ascii_lowercase().as_bytes());
    // texts of too different lengths are further apart than that
    let candidates = PARAMS.iter().filter(|param| param.name.len().abs_diff(wanted.len()) <= most);
    let best = candidates.min_by_key(distance)?;
    (distance(&best) <= most).then_some(best)
}

/// Levenshtein's distance; both texts are short.
pub(crate) fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (y, slot) in b.iter().zip(row.iter_mut().skip(1)) {
            let up = *slot;
            left = (diagonal + usize::from(x != y)).min(up + 1).min(left + 1);
            diagonal = up;
            *slot = left;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

const fn p(name: &'static str, kind: Kind, default: &'static str, flags: u8) -> Param {
    Param { name, kind, default, flags }
}

/// Every parameter.
#[rustfmt::skip]
pub static PARAMS: &[Param] = &[
    p("UseInternalDataplaneDriver", Bool, "true", 0),
    p("DataplaneDriver", Unchecked, "calico-iptables-plugin", NON_ZERO | FATAL),
    p("DataplaneWatchdogTimeout", Seconds, "90", 0),
    p("WireguardEnabled", Bool, "false", 0),
    p("WireguardEnabledV6", Bool, "false", 0),
    p("WireguardListeningPort", Int, "51820", 0),
    p("WireguardListeningPortV6", Int, "51821", 0),
    p("WireguardRoutingRulePriority", Int, "99", 0),
    p("WireguardInterfaceName", InterfaceName, "wireguard.cali", NON_ZERO),
    p("WireguardInterfaceNameV6", InterfaceName, "wg-v6.cali", NON_ZERO),
    p("WireguardMTU", Int, "0", 0),
    p("WireguardMTUV6", Int, "0", 0),
    p("WireguardHostEncryptionEnabled", Bool, "false", 0),
    p("WireguardPersistentKeepAlive", Seconds, "0", 0),
    p("WireguardThreadingEnabled", Bool, "false", 0),
    p("NFTablesMode", OneOf("Enabled Disabled Auto"), "Auto", 0),
    p("NFTablesFlowTableOffload", OneOf("All Disabled"), "Disabled", 0),
    p("NFTablesFlowTableDataIfacePattern", Unchecked, "", 0),
    p("BPFEnabled", Bool, "false", 0),
    p("BPFOverlayHostSourceIP", OneOf("TunnelAddress HostAddress"), "TunnelAddress", NON_ZERO),
    p("BPFDisableUnprivileged", Bool, "true", 0),
    p("BPFJITHardening", OneOf("Auto Strict"), "Auto", NON_ZERO),
    p("BPFLogLevel", OneOf("off info debug"), "off", NON_ZERO),
    p("BPFConntrackLogLevel", OneOf("off debug"), "off", NON_ZERO),
    p("BPFConntrackCleanupMode", OneOf("Auto Userspace BPFProgram"), "Auto", 0),
    p("BPFConntrackTimeouts", Unchecked, "CreationGracePeriod=10s,TCPSynSent=20s,TCPEstablished=1h,TCPFinsSeen=Auto,TCPResetSeen=40s,UDPTimeout=60s,GenericTimeout=10m,ICMPTimeout=5s", 0),
    p("BPFIPFragTimeout", Seconds, "0", 0),
    p("BPFLogFilters", Unchecked, "", 0),
    p("BPFCTLBLogFilter", OneOf("all"), "", 0),
    p("BPFDataIfacePattern", Unchecked, "^((en|wl|ww|sl|ib)[Popsx].*|(eth|wlan|wwan|bond).*)", 0),
    p("BPFL3IfacePattern", Unchecked, "", 0),
    p("BPFConnectTimeLoadBalancingEnabled", Bool, "", 0),
    p("BPFConnectTimeLoadBalancing", OneOf("TCP Enabled Disabled"), "TCP", NON_ZERO),
    p("BPFHostNetworkedNATWithoutCTLB", OneOf("Enabled Disabled"), "Enabled", NON_ZERO),
    p("BPFExternalServiceMode", OneOf("tunnel dsr"), "tunnel", NON_ZERO),
    p("BPFDSROptoutCIDRs", Ipv4List, "", 0),
    p("BPFKubeProxyIptablesCleanupEnabled", Bool, "true", 0),
    p("BPFKubeProxyMinSyncPeriod", Seconds, "1", 0),
    p("BPFKubeProxyHealthzPort", Int, "10256", 0),
    p("BPFExtToServiceConnmark", Int, "0", 0),
    p("BPFPSNATPorts", Unchecked, "20000:29999", 0),
    p("BPFMapSizeNATFrontend", Int, "65536", NON_ZERO),
    p("BPFMapSizeNATBackend", Int, "262144", NON_ZERO),
    p("BPFMapSizeNATAffinity", Int, "65536", NON_ZERO),
    p("BPFMapSizeRoute", Int, "262144", NON_ZERO),
    p("BPFMapSizeConntrack", Int, "512000", NON_ZERO),
    p("BPFMapSizePerCPUConntrack", Int, "0", 0),
    p("BPFMapSizeConntrackScaling", OneOf("Disabled DoubleIfFull"), "DoubleIfFull", NON_ZERO),
    p("BPFMapSizeConntrackCleanupQueue", Int, "100000", NON_ZERO),
    p("BPFMapSizeIPSets", Int, "1048576", NON_ZERO),
    p("BPFMapSizeIfState", Int, "1000", NON_ZERO),
    p("BPFHostConntrackBypass", Bool, "false", 0),
    p("BPFIPFragmentReassemblyEnabled", Bool, "true", 0),
    p("BPFEnforceRPF", OneOf("Disabled Strict Loose"), "Loose", NON_ZERO),
    p("BPFPolicyDebugEnabled", Bool, "true", 0),
    p("BPFForceTrackPacketsFromIfaces", Unchecked, "docker+", 0),
    p("BPFDisableGROForIfaces", Unchecked, "", 0),
    p("BPFExcludeCIDRsFromNAT", Ipv4List, "", 0),
    p("BPFRedirectToPeer", OneOf("Disabled Enabled L2Only"), "Enabled", NON_ZERO),
    p("BPFAttachType", OneOf("Netkit TCX TC"), "Netkit", NON_ZERO),
    p("BPFExportBufferSizeMB", Int, "1", NON_ZERO),
    p("BPFProfiling", OneOf("Disabled Enabled"), "Disabled", NON_ZERO),
    p("IstioAmbientMode", OneOf("Disabled Enabled"), "Disabled", 0),
    p("IstioDSCPMark", Unchecked, "23", 0),
    p("CgroupV2Path", Text, "", 0),
    p("DebugBPFCgroupV2", Text, "", LOCAL),
    p("DatastoreType", OneOf("kubernetes etcdv3"), "etcdv3", NON_ZERO | FATAL | LOCAL),
    p("FelixHostname", Hostname, "", NON_ZERO | LOCAL),
    p("EtcdAddr", Authority, "127.0.0.1:2379", LOCAL),
    p("EtcdScheme", OneOf("http https"), "http", LOCAL),
    p("EtcdKeyFile", Unchecked, "", LOCAL),
    p("EtcdCertFile", Unchecked, "", LOCAL),
    p("EtcdCaFile", Unchecked, "", LOCAL),
    p("EtcdEndpoints", Unchecked, "", LOCAL),
    p("TyphaAddr", Authority, "", LOCAL),
    p("TyphaK8sServiceName", Text, "", LOCAL),
    p("TyphaK8sNamespace", Text, "kube-system", NON_ZERO | LOCAL),
    p("TyphaReadTimeout", Seconds, "30", LOCAL),
    p("TyphaWriteTimeout", Seconds, "10", LOCAL),
    p("TyphaKeyFile", Unchecked, "", LOCAL),
    p("TyphaCertFile", Unchecked, "", LOCAL),
    p("TyphaCAFile", Unchecked, "", LOCAL),
    p("TyphaCN", Text, "", LOCAL),
    p("TyphaURISAN", Text, "", LOCAL),
    p("Ipv6Support", Bool, "true", 0),
    p("IptablesBackend", OneOf("legacy nft auto"), "auto", 0),
    p("RouteRefreshInterval", Seconds, "90", 0),
    p("InterfaceRefreshInterval", Seconds, "90", 0),
    p("DeviceRouteSourceAddress", Ipv4, "", 0),
    p("DeviceRouteSourceAddressIPv6", Ipv6, "", 0),
    p("DeviceRouteProtocol", Int, "3", 0),
    p("RemoveExternalRoutes", Bool, "true", 0),
    p("ProgramClusterRoutes", OneOf("Enabled Disabled EnabledIPIPOnly EnabledNoEncapOnly"), "EnabledIPIPOnly", 0),
    p("IPForwarding", OneOf("Enabled Disabled"), "Enabled", 0),
    p("IptablesRefreshInterval", Seconds, "180", 0),
    p("IptablesPostWriteCheckIntervalSecs", Seconds, "5", 0),
    p("IptablesLockProbeIntervalMillis", Millis, "50", 0),
    p("FeatureDetectOverride", Unchecked, "", 0),
    p("FeatureGates", Unchecked, "", 0),
    p("IpsetsRefreshInterval", Seconds, "90", 0),
    p("MaxIpsetSize", Int, "1048576", NON_ZERO),
    p("XDPRefreshInterval", Seconds, "90", 0),
    p("PolicySyncPathPrefix", Text, "", 0),
    p("NetlinkTimeoutSecs", Seconds, "10", 0),
    p("MetadataAddr", Hostname, "127.0.0.1", FATAL),
    p("MetadataPort", IntIn(0, 65535), "8775", FATAL),
    p("OpenstackRegion", Unchecked, "", FATAL),
    p("InterfacePrefix", InterfaceList, "cali", NON_ZERO | FATAL),
    p("InterfaceExclude", InterfacePatterns, "kube-ipvs0", 0),
    p("ChainInsertMode", OneOf("insert append"), "insert", NON_ZERO | FATAL),
    p("DefaultEndpointToHostAction", OneOf("DROP RETURN ACCEPT"), "DROP", NON_ZERO | FATAL),
    p("IptablesFilterAllowAction", OneOf("ACCEPT RETURN"), "ACCEPT", NON_ZERO | FATAL),
    p("IptablesMangleAllowAction", OneOf("ACCEPT RETURN"), "ACCEPT", NON_ZERO | FATAL),
    p("IptablesFilterDenyAction", OneOf("DROP REJECT"), "DROP", NON_ZERO | FATAL),
    p("LogPrefix", Text, "calico-packet", 0),
    p("LogActionRateLimit", LogRate, "", 0),
    p("LogActionRateLimitBurst", IntIn(0, i64::MAX), "5", 0),
    p("LogFilePath", Text, "/var/log/calico/felix.log", FATAL),
    p("LogSeverityFile", OneOf("TRACE DEBUG INFO WARNING ERROR FATAL"), "INFO", 0),
    p("LogSeverityScreen", OneOf("TRACE DEBUG INFO WARNING ERROR FATAL"), "INFO", 0),
    p("LogSeveritySys", OneOf("TRACE DEBUG INFO WARNING ERROR FATAL"), "INFO", 0),
    p("LogDebugFilenameRegex", Unchecked, "", 0),
    p("VXLANEnabled", Bool, "", 0),
    p("VXLANPort", Int, "4789", 0),
    p("VXLANVNI", Int, "4096", 0),
    p("VXLANMTU", Int, "0", 0),
    p("VXLANMTUV6", Int, "0", 0),
    p("IPv4VXLANTunnelAddr", Ipv4, "", 0),
    p("IPv6VXLANTunnelAddr", Ipv6, "", 0),
    p("VXLANTunnelMACAddr", Text, "", 0),
    p("VXLANTunnelMACAddrV6", Text, "", 0),
    p("IpInIpEnabled", Bool, "", 0),
    p("IpInIpMtu", Int, "0", 0),
    p("IpInIpTunnelAddr", Ipv4, "", 0),
    p("FloatingIPs", OneOf("Enabled Disabled"), "Disabled", 0),
    p("LocalSubnetL2Reachability", OneOf("Disabled PodsAndLoadBalancers"), "Disabled", 0),
    p("LocalSubnetL2ReachabilityRefreshInterval", Seconds, "120", 0),
    p("WindowsManageFirewallRules", OneOf("Enabled Disabled"), "Disabled", 0),
    p("AllowVXLANPacketsFromWorkloads", Bool, "false", 0),
    p("AllowIPIPPacketsFromWorkloads", Bool, "false", 0),
    p("AWSSrcDstCheck", OneOf("DoNothing Enable Disable"), "DoNothing", NON_ZERO),
    p("ServiceLoopPrevention", OneOf("Drop Reject Disabled"), "Drop", 0),
    p("WorkloadSourceSpoofing", OneOf("Disabled Any"), "Disabled", 0),
    p("ReportingIntervalSecs", Seconds, "30", 0),
    p("ReportingTTLSecs", Seconds, "90", 0),
    p("EndpointReportingEnabled", Bool, "false", 0),
    p("EndpointReportingDelaySecs", Seconds, "1", 0),
    p("EndpointStatusPathPrefix", Text, "/var/run/calico", 0),
    p("IptablesMarkMask", Mask, "0xffff0000", NON_ZERO | FATAL),
    p("DisableConntrackInvalidCheck", Bool, "false", 0),
    p("HealthEnabled", Bool, "false", 0),
    p("HealthPort", IntIn(0, 65535), "9099", 0),
    p("HealthHost", HostAddress, "localhost", 0),
    p("HealthTimeoutOverrides", Unchecked, "", 0),
    p("PrometheusMetricsEnabled", Bool, "false", 0),
    p("PrometheusMetricsHost", HostAddress, "", 0),
    p("PrometheusMetricsPort", IntIn(0, 65535), "9091", 0),
    p("PrometheusGoMetricsEnabled", Bool, "true", 0),
    p("PrometheusProcessMetricsEnabled", Bool, "true", 0),
    p("PrometheusWireGuardMetricsEnabled", Bool, "true", 0),
    p("PrometheusMetricsCAFile", Text, "", 0),
    p("PrometheusMetricsCertFile", Text, "", 0),
    p("PrometheusMetricsKeyFile", Text, "", 0),
    p("PrometheusMetricsClientAuth", OneOf("RequireAndVerifyClientCert RequireAnyClientCert VerifyClientCertIfGiven NoClientCert"), "NoClientCert", 0),
    p("FailsafeInboundHostPorts", PortList, "tcp:22,udp:68,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667", FATAL),
    p("FailsafeOutboundHostPorts", PortList, "udp:53,udp:67,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667", FATAL),
    p("FlowLogsFlushInterval", Seconds, "300", 0),
    p("FlowLogsCollectorDebugTrace", Bool, "false", 0),
    p("FlowLogsGoldmaneServer", Text, "", 0),
    p("FlowLogsLocalReporter", OneOf("Enabled Disabled"), "Disabled", 0),
    p("FlowLogsPolicyEvaluationMode", OneOf("None Continuous"), "Continuous", 0),
    p("KubeNodePortRanges", Unchecked, "30000:32767", 0),
    p("NATPortRange", Unchecked, "", 0),
    p("NATOutgoingAddress", Ipv4, "", 0),
    p("NATOutgoingExclusions", OneOf("IPPoolsOnly IPPoolsAndHostIPs"), "IPPoolsOnly", 0),
    p("UsageReportingEnabled", Bool, "true", 0),
    p("UsageReportingInitialDelaySecs", Seconds, "300", 0),
    p("UsageReportingIntervalSecs", Seconds, "86400", 0),
    p("ClusterGUID", Text, "baddecaf", 0),
    p("ClusterType", Text, "", 0),
    p("CalicoVersion", Text, "", 0),
    p("ExternalNodesCIDRList", Ipv4List, "", FATAL),
    p("DebugMemoryProfilePath", Text, "", 0),
    p("DebugCPUProfilePath", Text, "/tmp/felix-cpu-<timestamp>.pprof", 0),
    p("DebugDisableLogDropping", Bool, "false", 0),
    p("DebugSimulateCalcGraphHangAfter", Seconds, "0", 0),
    p("DebugSimulateDataplaneHangAfter", Seconds, "0", 0),
    p("DebugSimulateDataplaneApplyDelay", Seconds, "0", 0),
    p("DebugPanicAfter", Seconds, "0", 0),
    p("DebugSimulateDataRace", Bool, "false", 0),
    p("DebugHost", HostAddress, "localhost", 0),
    p("DebugPort", IntIn(0, 65535), "", 0),
    p("RouteSource", OneOf("WorkloadIPs CalicoIPAM"), "CalicoIPAM", 0),
    p("RouteTableRange", Unchecked, "", FATAL),
    p("RouteTableRanges", Unchecked, "", FATAL),
    p("RouteSyncDisabled", Bool, "false", 0),
    p("IPv4NormalRoutePriority", IntIn(1, 2147483646), "1024", 0),
    p("IPv4ElevatedRoutePriority", IntIn(1, 2147483646), "512", 0),
    p("IPv6NormalRoutePriority", IntIn(1, 2147483646), "1024", 0),
    p("IPv6ElevatedRoutePriority", IntIn(1, 2147483646), "512", 0),
    p("LiveMigrationRouteConvergenceTime", Seconds, "30", 0),
    p("IptablesNATOutgoingInterfaceFilter", InterfaceName, "", 0),
    p("SidecarAccelerationEnabled", Bool, "false", 0),
    p("XDPEnabled", Bool, "true", 0),
    p("GenericXDPEnabled", Bool, "false", 0),
    p("Variant", Text, "Calico", 0),
    p("GoGCThreshold", IntIn(-1, i64::MAX), "40", 0),
    p("GoMemoryLimitMB", IntIn(-1, i64::MAX), "-1", 0),
    p("GoMaxProcs", IntIn(-1, i64::MAX), "-1", 0),
    p("MTUIfacePattern", Unchecked, "^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)", 0),
    p("NftablesRefreshInterval", Seconds, "180", 0),
    p("NftablesFilterAllowAction", OneOf("ACCEPT RETURN"), "ACCEPT", NON_ZERO | FATAL),
    p("NftablesMangleAllowAction", OneOf("ACCEPT RETURN"), "ACCEPT", NON_ZERO | FATAL),
    p("NftablesFilterDenyAction", OneOf("DROP REJECT"), "DROP", NON_ZERO | FATAL),
    p("NftablesMarkMask", Mask, "0xffff0000", NON_ZERO | FATAL),
    p("RequireMTUFile", Bool, "false", 0),
    p("BPFMaglevMaxEndpointsPerService", IntIn(1, 3000), "100", 0),
    p("BPFMaglevMaxServices", IntIn(1, 3000), "100", 0),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calico::settings::value::{Value, parse};

    #[test]
    fn every_default_parses_as_its_own_type() {
        for param in PARAMS {
            if !param.default.is_empty() {
                let value = parse(param.kind, param.default);
                assert!(value.is_ok(), "{}: {value:?}", param.name);
            }
        }
    }

    #[test]
    fn names_are_unique_and_found_in_any_case() {
        for (index, one) in PARAMS.iter().enumerate() {
            assert_eq!(param(one.name), Some(one), "found by its own name");
            assert!(PARAMS.iter().skip(index + 1).all(|two| !two.name.eq_ignore_ascii_case(one.name)), "{}", one.name);
        }
        let found = param("FAILSAFEinboundHOSTPORTS").expect("a known name");
        assert!(found.dies_on_bad_value() && !found.refuses_none() && !found.is_local());
        assert!(param("felixhostname").expect("a known name").is_local());
    }

    #[test]
    fn misspelt_names_lead_to_the_right_one() {
        for (wrong, right) in [
            ("failsafe_inbound_host_ports", Some("FailsafeInboundHostPorts")),
            ("FailsafeOutboundHostPort", Some("FailsafeOutboundHostPorts")),
            ("chain_insertmode", Some("ChainInsertMode")),
            ("xyzzy", None),
            ("", None),
            ("____", None),
        ] {
            assert_eq!(nearest(wrong).map(|param| param.name), right, "{wrong:?}");
        }
        assert!(nearest(&"x".repeat(10_000_000)).is_none());
    }

    #[test]
    fn defaults_are_felixs() {
        let default = |name: &str| parse(param(name).expect(name).kind, param(name).expect(name).default).expect(name);
        assert_eq!(default("Ipv6Support"), Value::Bool(true));
        assert_eq!(default("IptablesMarkMask"), Value::Mask(0xffff_0000));
        assert_eq!(default("IptablesRefreshInterval"), Value::Seconds(180.0));
        assert_eq!(default("ChainInsertMode"), Value::Text("insert".into()));
    }
}
