//! Arguments of `hepguard forward`.

use clap::{Args, Subcommand};

pub(super) const FORWARD_EXAMPLES: &str = "\
Examples:
  hepguard forward test                  one message to each output: does it arrive?
  hepguard forward drill siem            a lockout finding marked as a drill: does the alarm ring?
  hepguard forward status                what waits in the queues
  hepguard forward replay siem           send again what the queues still hold";

/// `hepguard forward`
///
/// Works on the `[[forward]]` entries of the configuration. Formats: text, json.
#[derive(Debug, Clone, Args)]
pub struct ForwardArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: ForwardVerb,
}

/// What to do with the outputs.
#[derive(Debug, Clone, Subcommand)]
pub enum ForwardVerb {
    /// Send one message to each output and wait until it is delivered; exits with 1 where it is not
    #[command(after_help = "Examples:\n  hepguard forward test\n  hepguard forward test siem")]
    Test {
        /// Only this output
        name: Option<String>,
    },
    /// Send a lockout finding, its end, and a deny, all marked as a drill, to see whether the SIEM's rules fire
    #[command(after_help = "Examples:\n  hepguard forward drill siem")]
    Drill {
        /// Only this output
        name: Option<String>,
    },
    /// What waits in the queues on the disk
    #[command(after_help = "Examples:\n  hepguard forward status --format json")]
    Status {
        /// Only this output
        name: Option<String>,
    },
    /// Send again what an output's queues still hold, delivered or not; receivers know repeated messages by their id
    #[command(after_help = "Examples:\n  hepguard forward replay siem --findings-only")]
    Replay {
        /// The output
        name: String,
        /// Only the queue of findings
        #[arg(long)]
        findings_only: bool,
    },
}
