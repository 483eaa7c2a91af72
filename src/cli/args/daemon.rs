//! Arguments of the daemon, of who asks it, and of its configuration.

use clap::{Args, Subcommand, ValueEnum};

pub(super) const CONFIG_EXAMPLES: &str = "\
Examples:
  hepguard config check                      # /etc/hepguard/hepguard.toml
  hepguard config check new.toml && cp new.toml /etc/hepguard/hepguard.toml
  hepguard config check --format json        # every key with its value, defaults included";

/// `hepguard config`
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

/// What to do with the configuration.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigVerb {
    /// Read it as the daemon would; exits with 1 at a mistake, named with its line
    #[command(after_help = CONFIG_EXAMPLES)]
    Check {
        /// The file [default: that of --config, else /etc/hepguard/hepguard.toml]
        file: Option<std::path::PathBuf>,
    },
}

pub(super) const STATUS_EXAMPLES: &str = "\
Examples:
  hepguard status
  hepguard status -v                          # resolved alerts, too
  hepguard status --format json | jq '.alerts[] | select(.resolved == null) | .title'
  hepguard status -q --fail-on critical       # for a monitoring system: exits with 1 at an open critical alert";

/// `hepguard status`
///
/// Asks the daemon over its Unix socket (`state.socket` of the configuration). Formats: text, json.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Ask the daemon that listens here
    #[arg(long, value_name = "SOCKET")]
    pub socket: Option<std::path::PathBuf>,
}

pub(super) const WATCH_EXAMPLES: &str = "\
Examples:
  systemctl enable --now hepguard             # as a service: systemd/hepguard.service
  sudo hepguard watch                         # by hand: alerts go to standard error, Ctrl-C ends it
  hepguard watch --config test.toml & hepguard status --config test.toml";

/// `hepguard watch`
///
/// Looks at the host when something changes, not by the clock: nf_tables, links and routes are told by the kernel; the lock of
/// legacy iptables, the ipset program and configuration files are watched; everything is compared once a minute. HUP reads the
/// configuration anew, TERM ends it.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// A part of the daemon, started by itself
    #[arg(long, hide = true, value_enum)]
    pub part: Option<WatchPart>,
}

/// Parts of the daemon that are processes of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WatchPart {
    /// One look at the host.
    Look,
    /// The reader of logs.
    Read,
}
