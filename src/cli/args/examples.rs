//! What stands below the options of commands whose arguments say little by themselves.

/// Of the program itself: where to begin.
pub(super) const START: &str = "\
Examples:
  hepguard demo                               the lab bastion, before and after its lockout; no root needed
  sudo hepguard audit                         this host
  sudo hepguard plan -- ufw enable            a change, before it is made
  hepguard explain HG104                      what a finding means

Exit codes: 0 nothing at or above --fail-on and all was readable, 1 findings, 2 could not do the job, 3 done, but something \
could not be read or decided.";

pub(super) const AUDIT_EXAMPLES: &str = "\
Examples:
  sudo hepguard audit
  hepguard audit --snapshot before/ --policies export/
  hepguard audit -q --fail-on critical        # verdict and calendar, for a script
  hepguard audit --format jsonl | jq .code    # a finding a line; json is one document";

pub(super) const FAILSAFE_EXAMPLES: &str = "\
Examples:
  sudo hepguard failsafe
  hepguard failsafe --snapshot before/
  hepguard failsafe --format json";

pub(super) const DEMO_EXAMPLES: &str = "\
Examples:
  hepguard demo
  hepguard demo --write lab && hepguard audit --snapshot lab/before";

pub(super) const EXPLAIN_EXAMPLES: &str = "\
Examples:
  hepguard explain                            # all findings, a line each
  hepguard explain HG303
  hepguard explain rules-ahead-of-felix --format markdown";

pub(super) const REPORT_EXAMPLES: &str = "\
Examples:
  sudo hepguard report -o report.html                       this host, with the denies of its log
  hepguard report -o report.html --snapshot before/ syslog
  hepguard report -o - --snapshot before/ > report.html

The page needs no network and runs no script. It is written for its owner alone: it shows what a firewall lets through.";

pub(super) const SNAPSHOT_EXAMPLES: &str = "\
Examples:
  sudo hepguard snapshot before/
  sudo hepguard snapshot --force before/ && hepguard audit --snapshot before/
  hepguard diff before/ after/                # what a change did to packets";
