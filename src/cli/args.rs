//! Types of the command line, nothing else. Their doc comments are the help texts.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::audit::finding::Severity;

/// Guards the way in: checks the host firewall that Calico's Felix writes, and warns before a lockout.
#[derive(Debug, Parser)]
#[command(name = "hepguard", version, max_term_width = 100)]
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
    Audit(AuditArgs),
    /// The failsafe lists four ways: on disk, in the running Felix, in the datastore, in the kernel; what differs
    Failsafe(FailsafeArgs),
    /// A finding's page: what it checks, why it matters, how to fix
    Explain(ExplainArgs),
    /// Save everything an audit needs as plain files, without secrets
    Snapshot(SnapshotArgs),
}

/// `hepguard audit`
#[derive(Debug, Clone, Args)]
pub struct AuditArgs {}

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
