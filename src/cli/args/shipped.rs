//! Arguments of what makes pages: manuals and completions.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

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
