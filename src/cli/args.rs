//! Types of the command line, nothing else. Their doc comments are the help texts.

mod daemon;
mod examples;
mod forward;
mod shipped;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::audit::finding::Severity;
use crate::logs::event::{Action, Direction, Source};
use crate::logs::query::{Field, Pattern};
use crate::logs::tally;
use crate::packet::{PortRange, Prefix, Protocol};
use daemon::{CONFIG_EXAMPLES, STATUS_EXAMPLES, WATCH_EXAMPLES};
pub use daemon::{ConfigArgs, ConfigVerb, StatusArgs, WatchArgs, WatchPart};
use examples::*;
use forward::FORWARD_EXAMPLES;
pub use forward::{ForwardArgs, ForwardVerb};
pub use shipped::{GenerateArgs, GenerateWhat, ReportArgs};

/// Guards the way in: checks the host firewall that Calico's Felix writes, and warns before a lockout.
#[derive(Debug, Parser)]
#[command(name = "hepguard", version, max_term_width = 100, after_help = START)]
pub struct Cli {
    /// Options every command takes.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Read this snapshot folder, or one file of it, instead of the live host
    #[arg(long, global = true, value_name = "DIR|FILE")]
    pub snapshot: Option<std::path::PathBuf>,
    /// Read this configuration [default: /etc/hepguard/hepguard.toml, on the live host]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
    /// How to write the answer; which formats exist depends on the command
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub format: String,
    /// Colours on the terminal (NO_COLOR is honoured)
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub color: ColorChoice,
    /// Exit with 1 when a finding is at least this severe
    #[arg(long, global = true, value_enum, default_value = "high", value_name = "SEVERITY")]
    pub fail_on: FailOn,
    /// Say less
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Lowest severity that makes the exit code 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names are the severities'")]
pub enum FailOn {
    Critical,
    High,
    Medium,
    Low,
}

impl FailOn {
    /// As a severity.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::Critical => Severity::Critical,
            Self::High => Severity::High,
            Self::Medium => Severity::Medium,
            Self::Low => Severity::Low,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check this host: failsafe lists, chain integrity, lockout risks, blind spots
    #[command(after_help = AUDIT_EXAMPLES)]
    Audit(AuditArgs),
    /// The failsafe lists four ways: on disk, in the running Felix, in the datastore, in the kernel; what differs
    #[command(after_help = FAILSAFE_EXAMPLES)]
    Failsafe(FailsafeArgs),
    /// The inventory of flows that must work, each with its evidence and its verdict in every world
    #[command(after_help = FLOWS_EXAMPLES)]
    Flows(FlowsArgs),
    /// Check the configuration file
    #[command(after_help = CONFIG_EXAMPLES)]
    Config(ConfigArgs),
    /// Try, watch and repeat what is sent to the SIEM
    #[command(after_help = FORWARD_EXAMPLES)]
    Forward(ForwardArgs),
    /// Query deny lines: who was denied what, by which policy
    #[command(after_help = DENIES_EXAMPLES)]
    Denies(Box<DeniesArgs>),
    /// What packets are treated differently in two snapshots
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(DiffArgs),
    /// The lab bastion, embedded: denies and audits, one step before its lockout and after; no root needed
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// A finding's page: what it checks, why it matters, how to fix
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// Man pages and completions, for packages
    #[command(hide = true)]
    Generate(GenerateArgs),
    /// Who can talk to whom through this host: the fewest classes of addresses the rules treat alike
    #[command(after_help = MATRIX_EXAMPLES)]
    Matrix(MatrixArgs),
    /// Check Calico policy files by themselves: who is selected, what order makes of them, what hosts would lack
    #[command(after_help = LINT_EXAMPLES)]
    Lint(LintArgs),
    /// Dry-run a change: what it cuts, what it only seems to keep, and when that is noticed
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(Box<PlanArgs>),
    /// The exact set of peers that can reach a port of this host, or whom this host can reach
    #[command(after_help = REACH_EXAMPLES)]
    Reach(ReachArgs),
    /// One self-contained page: verdict, calendar, failsafe lists, map of flows, denies, a packet's walk, findings
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportArgs),
    /// One packet, rule by rule: verdict and reasons
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(Box<TraceArgs>),
    /// What the running daemon sees: open alerts, denies by kind, the latest changes
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// The daemon: follows logs, firewall and Felix, and raises alerts
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(WatchArgs),
    /// Save everything an audit needs as plain files, without secrets
    #[command(after_help = SNAPSHOT_EXAMPLES)]
    Snapshot(SnapshotArgs),
}

/// `hepguard audit`
///
/// Formats: text, json (one document), jsonl (a finding a line).
#[derive(Debug, Clone, Args)]
pub struct AuditArgs {
    /// Calico's policies.
    #[command(flatten)]
    pub known: KnownPolicies,
}

/// What is known of Calico's policies.
#[derive(Debug, Clone, Default, Args)]
pub struct KnownPolicies {
    /// Files of Calico's resources, beside those of the snapshot: they name policies, rules and selectors where the
    /// firewall has hashes; may be given several times
    #[arg(long, value_name = "FILE|DIR")]
    pub policies: Vec<std::path::PathBuf>,
}

/// `hepguard explain`
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// Code or name of a finding, HG303 or rules-ahead-of-felix; without it all are listed
    pub code: Option<String>,
}

/// `hepguard snapshot`
#[derive(Debug, Clone, Args)]
pub struct SnapshotArgs {
    /// Folder to write; made when missing, for its owner only
    pub dir: std::path::PathBuf,
    /// Replace an older snapshot in that folder
    #[arg(long)]
    pub force: bool,
}

/// `hepguard failsafe`
#[derive(Debug, Clone, Args)]
pub struct FailsafeArgs {}

/// `hepguard flows`
///
/// Sessions, sshd's ports, resolvers, leases, time sources, the datastore, routing peers, mounts, log collectors, failsafe
/// entries, and what the configuration protects. Each is judged as a whole conversation: now, as a new connection, without
/// failsafes, after a restart of Felix, after a boot. Formats: text, json.
#[derive(Debug, Clone, Args)]
pub struct FlowsArgs {
    /// Write the flows as `[[protect]]` entries into this new file
    #[arg(long, value_name = "FILE")]
    pub export: Option<std::path::PathBuf>,
    /// Protect the `[[protect]]` entries of this file, too; may be given several times
    #[arg(long, value_name = "FILE")]
    pub import: Vec<std::path::PathBuf>,
}

/// `hepguard denies`
///
/// Filters take several values, separated by commas; names may hold `*`. Formats: text, json (one document), csv (a line a
/// group), and a line an event in the order of time: jsonl, ecs, ocsf, cef.
#[derive(Debug, Clone, Default, Args)]
pub struct DeniesArgs {
    /// Log files, plain, gzip, xz, zstd or bzip2; - is standard input [default: /var/log/syslog, else /var/log/messages]
    pub files: Vec<std::path::PathBuf>,
    /// Source addresses: an address or a CIDR
    #[arg(long, value_delimiter = ',', value_name = "CIDR", help_heading = "Filters")]
    pub src_ip: Vec<Prefix>,
    /// Destination addresses: an address or a CIDR
    #[arg(long, value_delimiter = ',', value_name = "CIDR", help_heading = "Filters")]
    pub dst_ip: Vec<Prefix>,
    /// Source ports: 443 or 1024-65535
    #[arg(long, value_delimiter = ',', value_name = "PORT", value_parser = ports, help_heading = "Filters")]
    pub src_port: Vec<PortRange>,
    /// Destination ports: 443 or 8000-8099
    #[arg(long, value_delimiter = ',', value_name = "PORT", value_parser = ports, help_heading = "Filters")]
    pub dst_port: Vec<PortRange>,
    /// Protocols: tcp, udp, icmp or a number
    #[arg(long, value_delimiter = ',', value_name = "PROTO", help_heading = "Filters")]
    pub proto: Vec<Protocol>,
    /// ICMP types, by number
    #[arg(long, value_delimiter = ',', value_name = "N", help_heading = "Filters")]
    pub icmp_type: Vec<u8>,
    /// ingress (in), egress (out), forward
    #[arg(long, value_delimiter = ',', value_parser = tally::direction, help_heading = "Filters")]
    pub direction: Vec<Direction>,
    /// Policies, with or without their tier in front
    #[arg(long, value_delimiter = ',', value_name = "NAME", value_parser = pattern, help_heading = "Filters")]
    pub policy: Vec<Pattern>,
    /// Tiers
    #[arg(long, value_delimiter = ',', value_name = "NAME", value_parser = pattern, help_heading = "Filters")]
    pub tier: Vec<Pattern>,
    /// Rule indexes as logged: 0 is a policy's first rule, -1 the end of the tier
    #[arg(long, value_delimiter = ',', value_name = "N", allow_negative_numbers = true, help_heading = "Filters")]
    pub rule_index: Vec<i32>,
    /// deny, drop, reject, allow, pass, log (no verdict) [default: deny, drop, reject]
    #[arg(long, value_delimiter = ',', value_parser = tally::action, help_heading = "Filters")]
    pub action: Vec<Action>,
    /// felix, kernel, flowlog
    #[arg(long, value_delimiter = ',', value_parser = tally::source, help_heading = "Filters")]
    pub source: Vec<Source>,
    /// Hosts that logged
    #[arg(long, value_delimiter = ',', value_name = "NAME", value_parser = pattern, help_heading = "Filters")]
    pub host: Vec<Pattern>,
    /// Input interfaces (kernel lines)
    #[arg(long, value_delimiter = ',', value_name = "NAME", value_parser = pattern, help_heading = "Filters")]
    pub in_iface: Vec<Pattern>,
    /// Output interfaces (kernel lines)
    #[arg(long, value_delimiter = ',', value_name = "NAME", value_parser = pattern, help_heading = "Filters")]
    pub out_iface: Vec<Pattern>,
    /// Prefixes of kernel lines
    #[arg(long, value_delimiter = ',', value_name = "TEXT", value_parser = pattern, help_heading = "Filters")]
    pub log_prefix: Vec<Pattern>,
    /// Only denies on a failsafe port (true), or only others (false)
    #[arg(long, value_name = "BOOL", help_heading = "Filters")]
    pub failsafe: Option<bool>,
    /// Earliest time: 2026-08-21T07:00:00Z, "2026-08-21 07:00" (local), 07:00, "2h ago"
    #[arg(long, value_name = "TIME", help_heading = "Filters")]
    pub since: Option<String>,
    /// Time before which it was
    #[arg(long, value_name = "TIME", help_heading = "Filters")]
    pub until: Option<String>,
    /// Event fields that make a group, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "FIELD", value_parser = Field::parse)]
    pub group_by: Vec<Field>,
    /// Show the N largest groups [default: 20 as text, else all]
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// Only groups not seen before this time; forms as of --since
    #[arg(long, value_name = "TIME")]
    pub new_since: Option<String>,
    /// Also denies over time, in bars of this width: 5m, 1h, 1d [default width: what makes about forty]
    #[arg(long, value_name = "WIDTH", num_args = 0..=1, require_equals = true, default_missing_value = "auto",
        value_parser = bar_width)]
    pub histogram: Option<BarWidth>,
    /// For each group the smallest Calico rule that would admit it, and what else that rule would admit
    #[arg(long)]
    pub suggest: bool,
    /// Calico's policies.
    #[command(flatten)]
    pub known: KnownPolicies,
    /// Ask the resolver for the names of peers that no file of this host knows; the default is not to ask
    #[arg(long)]
    pub reverse_lookup: bool,
    /// A staged policy for this host endpoint from the traffic the logs and the host show, with evidence for each rule, as YAML
    #[arg(long, conflicts_with_all = ["suggest", "histogram", "new_since", "top", "group_by"])]
    pub recommend: bool,
    /// Also the older files of each log, as logrotate names them (.1, .2.gz, -20260821.xz), oldest first
    #[arg(long)]
    pub rotated: bool,
    /// Print denies as they are logged, through rotation; with --since also those that are there already
    #[arg(short, long, conflicts_with_all = ["histogram", "new_since", "top", "group_by", "until", "rotated", "suggest", "recommend"])]
    pub follow: bool,
}

/// Width of a bar in seconds; `None` leaves it to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarWidth(pub Option<i64>);

fn bar_width(text: &str) -> Result<BarWidth, String> {
    crate::logs::histogram::width(text).map(BarWidth)
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Ok(Pattern::new(text))
}

fn ports(text: &str) -> Result<PortRange, String> {
    let (low, high) = text.split_once(['-', ':']).unwrap_or((text, text));
    let port = |text: &str| text.parse::<u16>().ok();
    let range = port(low).zip(port(high)).filter(|(low, high)| low <= high);
    let (low, high) = range.ok_or_else(|| format!("expected a port or a range such as 8000-8099, found {text:?}"))?;
    Ok(PortRange { low, high })
}

/// `hepguard lint`
///
/// Reads YAML, JSON, lists and exports, also from here-documents and fences of run-books. The more of the policy set is
/// given (tiers, host endpoints, network sets, FelixConfiguration), the more can be judged. Formats: text, json, sarif,
/// markdown.
#[derive(Debug, Clone, Args)]
pub struct LintArgs {
    /// Files of Calico resources, folders of them, or - for standard input
    #[arg(required = true)]
    pub files: Vec<std::path::PathBuf>,
    /// Flow logs, one JSON object a line: what staged policies would deny of them
    #[arg(long, value_name = "FILE")]
    pub flow_logs: Vec<std::path::PathBuf>,
}

/// `hepguard reach`
///
/// A peer counts as allowed when it gets a conversation: its first packet in, the answer back, and for TCP the packet that
/// completes the handshake. Formats: text, json (an object a family, one a line).
#[derive(Debug, Clone, Args)]
pub struct ReachArgs {
    /// in (peers that reach this host) or out (peers that this host reaches)
    #[arg(value_name = "in|out", value_parser = ["in", "out"])]
    pub direction: String,
    /// Protocol and destination port: tcp/22; protocols without ports stand alone: icmp
    #[arg(value_name = "PROTO/PORT")]
    pub service: Service,
    /// Only these peers
    #[arg(long, value_name = "CIDR")]
    pub from: Option<Prefix>,
    /// Only this family [default: both]
    #[arg(long, value_name = "ipv4|ipv6", value_parser = ["ipv4", "ipv6"])]
    pub family: Option<String>,
    /// Conntrack state of the first packet: new, or established for sessions that exist
    #[arg(long, value_name = "STATE", default_value = "new", value_parser = ["new", "established"])]
    pub state: String,
    /// Which rule lets each part through or stops it
    #[arg(long)]
    pub explain: bool,
    /// Calico's policies.
    #[command(flatten)]
    pub known: KnownPolicies,
}

/// `hepguard matrix`
///
/// Two addresses are in one class when the rules decide alike about both, as source and as destination of a new, unmarked
/// packet (TCP: SYN) at one hook. Loopback interfaces carry loopback addresses only. Formats: text (-v shows every prefix), json
/// (an object a family, one a line).
#[derive(Debug, Clone, Args)]
pub struct MatrixArgs {
    /// Protocol and destination port: tcp/22; protocols without ports stand alone: icmp
    #[arg(value_name = "PROTO/PORT")]
    pub service: Service,
    /// Source port [default: 32768, a client's]
    #[arg(long, value_name = "PORT")]
    pub sport: Option<u16>,
    /// Interface packets come in by [default: any]
    #[arg(short = 'i', value_name = "IFACE")]
    pub iif: Option<String>,
    /// Interface packets leave by [default: any]
    #[arg(short = 'o', value_name = "IFACE")]
    pub oif: Option<String>,
    /// Only this family [default: both]
    #[arg(long, value_name = "ipv4|ipv6", value_parser = ["ipv4", "ipv6"])]
    pub family: Option<String>,
    /// All chains at this hook [default: forward]
    #[arg(long, value_name = "HOOK", value_parser = ["input", "output", "forward"])]
    pub hook: Option<String>,
    /// This chain alone, with its policy; --hook says where packets meet a chain that has none
    #[arg(long, value_name = "NAME")]
    pub chain: Option<String>,
    /// The table of --chain, where several have one of that name: filter, or "iptables-nft filter"
    #[arg(long, value_name = "TABLE", requires = "chain")]
    pub table: Option<String>,
    /// What rules that cannot be decided count as: accepting (may) or refusing (must)
    #[arg(long, value_name = "may|must", default_value = "may", value_parser = ["may", "must"])]
    pub bound: String,
}

/// A protocol and its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// The protocol.
    pub protocol: Protocol,
    /// Its destination port, for protocols that have ports.
    pub port: Option<u16>,
}

impl std::str::FromStr for Service {
    type Err = String;

    /// `tcp/22`, `icmp`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, port) = text.split_once('/').map_or((text, None), |(name, port)| (name, Some(port)));
        let protocol: Protocol = name.parse()?;
        let port = port.map(|port| {
            port.parse::<u16>().map_err(|_| format!("expected a port of 0 to 65535 after the slash, found {port:?}"))
        });
        match (protocol.has_ports(), port.transpose()?) {
            (true, None) => Err(format!("{protocol} needs a port: {protocol}/22")),
            (false, Some(_)) => Err(format!("{protocol} has no ports: write {protocol} alone")),
            (_, port) => Ok(Self { protocol, port }),
        }
    }
}

/// `hepguard diff`
///
/// Compares what two firewalls do with every packet, not how they are written: the same rules in another order, backend or
/// spelling are equal. Formats: text, json.
#[derive(Debug, Clone, Args)]
pub struct DiffArgs {
    /// The first snapshot: a folder, one file of it, or the word live for this host
    #[arg(value_name = "A")]
    pub before: std::path::PathBuf,
    /// The second one [default: what --snapshot names, else this host]
    #[arg(value_name = "B")]
    pub after: Option<std::path::PathBuf>,
    /// Only this family [default: those that one of the snapshots lists]
    #[arg(long, value_name = "ipv4|ipv6", value_parser = ["ipv4", "ipv6"])]
    pub family: Option<String>,
    /// Only this way: in, out or forward [default: all]
    #[arg(long, value_name = "WAY", value_parser = ["in", "out", "forward"])]
    pub direction: Option<String>,
}

/// `hepguard plan`
///
/// The change is made on a copy of what is known about this host; the host stays as it is. Each flow that must work is
/// judged before and after it, as a whole conversation: open sessions, new connections, policy without the failsafe lists,
/// and after the next restart of Felix. Formats: text, json, sarif, markdown, junit (a case a protected flow).
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// Calico resources to create or replace: files, folders, - for standard input
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-", help_heading = "Changes")]
    pub resources: Vec<std::path::PathBuf>,
    /// A Calico resource to delete
    #[arg(long, value_name = "KIND/NAME", help_heading = "Changes")]
    pub delete: Vec<String>,
    /// Staged policies, those of the change and those there are, are enforced
    #[arg(long, help_heading = "Changes")]
    pub enforce_staged: bool,
    /// What is in force now: an export of Calico's resources; else the snapshot's, else the live chains themselves
    #[arg(long, value_name = "DIR")]
    pub policies: Option<std::path::PathBuf>,
    /// New environment file of Felix, which then restarts
    #[arg(long, value_name = "FILE", help_heading = "Changes")]
    pub felix_env: Vec<std::path::PathBuf>,
    /// New felix.cfg; Felix restarts
    #[arg(long, value_name = "FILE", help_heading = "Changes")]
    pub felix_cfg: Vec<std::path::PathBuf>,
    /// One parameter of Felix, set in its environment; Felix restarts
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Changes")]
    pub set: Vec<String>,
    /// A file for iptables-restore
    #[arg(long, value_name = "FILE", help_heading = "Changes")]
    pub iptables_restore: Vec<std::path::PathBuf>,
    /// A file for ip6tables-restore
    #[arg(long, value_name = "FILE", help_heading = "Changes")]
    pub ip6tables_restore: Vec<std::path::PathBuf>,
    /// A file for nft -f
    #[arg(long, value_name = "FILE", help_heading = "Changes")]
    pub nft: Vec<std::path::PathBuf>,
    /// The restore files are added to the rules that are there, as the tools have it
    #[arg(long, help_heading = "Changes")]
    pub noflush: bool,
    /// Seconds that a command or a ruleset to load may take
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    /// A command, run in a private copy of this host's network
    #[arg(last = true, value_name = "COMMAND", help_heading = "Changes")]
    pub command: Vec<std::ffi::OsString>,
    /// Felix stops, or restarts with what is on disk now
    #[arg(long, value_enum, value_name = "stop|restart", help_heading = "Changes")]
    pub felix: Option<FelixAction>,
    /// The host boots with what is persisted; behind all other changes
    #[arg(long, help_heading = "Changes")]
    pub reboot: bool,
}

/// What happens to Felix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FelixAction {
    /// It stops.
    Stop,
    /// It starts again with what is on disk.
    Restart,
}

/// `hepguard trace`
#[derive(Debug, Clone, Args)]
pub struct TraceArgs {
    /// in (to this host), out (of this host) or forward (through it)
    #[arg(required_unless_present = "batch", value_name = "in|out|forward")]
    pub direction: Option<String>,
    /// Protocol by name or number
    #[arg(required_unless_present = "batch", value_name = "PROTO")]
    pub protocol: Option<String>,
    /// Source address and port; IPv6 with a port in brackets
    #[arg(required_unless_present = "batch", value_name = "SRC[:PORT]")]
    pub source: Option<String>,
    /// Destination address and port
    #[arg(required_unless_present = "batch", value_name = "DST[:PORT]")]
    pub destination: Option<String>,
    /// Interface it comes in by
    #[arg(short = 'i', value_name = "IFACE")]
    pub iif: Option<String>,
    /// Interface it leaves by; without it the routes tell
    #[arg(short = 'o', value_name = "IFACE")]
    pub oif: Option<String>,
    /// Conntrack state: new, established, related, invalid or untracked [default: new]
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    /// Packet mark before the first rule
    #[arg(long, value_name = "0x0")]
    pub mark: Option<String>,
    /// TCP flags, such as syn or syn,ack [default: syn, on a known connection ack]
    #[arg(long, value_name = "FLAGS")]
    pub flags: Option<String>,
    /// ICMP type and code [default: echo request]
    #[arg(long, value_name = "N[/C]")]
    pub icmp_type: Option<String>,
    /// Owner of the local socket, for packets out
    #[arg(long, value_name = "N")]
    pub uid: Option<u32>,
    /// Only this hook: prerouting, input, forward, output or postrouting
    #[arg(long, value_name = "HOOK")]
    pub at: Option<String>,
    /// Judge the whole conversation the packet opens, both ways; -o (of a packet in) and -i (of a packet out) then say
    /// where answers go and come from
    #[arg(long, conflicts_with = "at")]
    pub conversation: bool,
    /// A packet a line as JSON ('-' reads standard input); one answer a line, in order
    #[arg(long, value_name = "FILE.jsonl", conflicts_with_all = [
        "direction", "protocol", "source", "destination", "iif", "oif", "state", "mark", "flags", "icmp_type", "uid", "at",
    ])]
    pub batch: Option<std::path::PathBuf>,
    /// Calico's policies.
    #[command(flatten)]
    pub known: KnownPolicies,
}

/// `hepguard demo`
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Write the lab's snapshots and its syslog into this new folder instead, to try every command on them
    #[arg(long, value_name = "DIR")]
    pub write: Option<std::path::PathBuf>,
}
