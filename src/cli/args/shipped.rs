//! Arguments of what makes pages: the report, manuals, completions.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use super::KnownPolicies;

/// `hepguard report`
///
/// What `audit`, `failsafe`, `flows`, `denies` and `trace` say, on one page. The only format is HTML.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// The file to write, replaced when it is there; - is standard output
    #[arg(short, long, value_name = "FILE.html")]
    pub output: PathBuf,
    /// Log files with denies [default: on the live host /var/log/syslog, else /var/log/messages; of a snapshot none]
    #[arg(value_name = "LOG")]
    pub files: Vec<PathBuf>,
    /// Calico's policies.
    #[command(flatten)]
    pub known: KnownPolicies,
}

/// `hepguard generate`
///
/// From the same definitions as the program itself, at the time a package is made: nothing generated is kept in the source.
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    /// What to write.
    #[command(subcommand)]
    pub what: GenerateWhat,
}

/// What can be written.
#[derive(Debug, Clone, Subcommand)]
pub enum GenerateWhat {
    /// Man pages into a folder: of each command, of the configuration, of the findings
    #[command(after_help = "Examples:\n  hepguard generate man man/ && man -l man/hepguard.1\n\nPages are dated when \
        SOURCE_DATE_EPOCH is set.")]
    Man {
        /// The folder; made when missing, pages in it are replaced
        dir: PathBuf,
    },
    /// Completions of a shell, to standard output
    #[command(
        after_help = "Examples:\n  source <(hepguard generate completions bash)\n  hepguard generate completions zsh > \
        ~/.zfunc/_hepguard\n  hepguard generate completions fish > ~/.config/fish/completions/hepguard.fish"
    )]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
}
