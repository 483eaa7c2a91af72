//! What stands below the options of a command: how it is called, and what its exit codes mean where that needs words.

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

pub(super) const FLOWS_EXAMPLES: &str = "\
Examples:
  hepguard flows
  hepguard flows --snapshot before/ --format json
  hepguard flows --export must-work.toml    # then: hepguard flows --import must-work.toml";

pub(super) const DENIES_EXAMPLES: &str = "\
Examples:
  hepguard denies /var/log/syslog --src-ip 10.0.1.10 --dst-port 443
  hepguard denies --rotated --new-since yesterday --histogram
  hepguard denies --follow --direction ingress
  hepguard denies syslog --snapshot before/ --suggest
  hepguard denies flows.log --snapshot before/ --recommend > staged.yaml
  hepguard denies /var/log/calico/flowlogs/flows.log --format ecs
  journalctl -o json | hepguard denies -";

pub(super) const LINT_EXAMPLES: &str = "\
Examples:
  hepguard lint policies/
  kubectl get tiers,gnp,hep,gns,felixconfigurations -o yaml | hepguard lint -
  hepguard lint policies/ --flow-logs flows.log
  hepguard lint policies/ --format sarif --fail-on medium > lint.sarif";

pub(super) const REACH_EXAMPLES: &str = "\
Examples:
  hepguard reach in tcp/22
  hepguard reach in tcp/22 --from 10.0.0.0/8 --explain --snapshot before/
  hepguard reach out udp/53 --format json";

pub(super) const MATRIX_EXAMPLES: &str = "\
Examples:
  hepguard matrix tcp/22
  hepguard matrix tcp/443 -i eth0 --family ipv4 --snapshot before/
  hepguard matrix tcp/22 --chain cali-FORWARD --table filter --bound must --format json";

pub(super) const DIFF_EXAMPLES: &str = "\
Examples:
  hepguard diff before/ after/
  hepguard diff rules.v4.old rules.v4 --direction in
  hepguard diff before/                 # with the live host
  hepguard diff before/ after/ --format json

Exit codes: 0 every packet is treated as before, 1 some are not, 2 could not compare, 3 undecided or not all rules read.
A difference counts as high: with --fail-on critical it is told, and does not make the exit code 1.";

pub(super) const PLAN_EXAMPLES: &str = "\
Examples:
  hepguard plan -f policy.yaml --policies export/
  hepguard plan --delete gnp/security.hep-external
  hepguard plan -f staged.yaml --enforce-staged --policies export/
  hepguard plan --felix-env new/calico.env
  hepguard plan --set FailsafeOutboundHostPorts=udp:53,udp:67,tcp:6443
  hepguard plan --felix restart --snapshot before/
  hepguard plan --reboot
  hepguard plan --iptables-restore new.v4 --ip6tables-restore new.v6
  hepguard plan -- ufw enable
  hepguard plan --timeout 20 -- sh ./firewall.sh

A command runs for real, but in a private network namespace with a copy of this host's interfaces, addresses, routes, sets
and rules, and on private file systems: what it writes is thrown away. It needs root. What talks to a daemon of the host
(firewalld, Docker, systemd) is beyond the copy. --reboot runs the loaders of a boot there (nft, ufw) where only they
can tell what comes of their files.

Exit codes: 0 safe, 1 do not apply it, 2 could not do the job, 3 undecided.";

pub(super) const TRACE_EXAMPLES: &str = "\
Examples:
  hepguard trace in tcp 203.0.113.7:51522 10.0.1.10:22 -i ens5
  hepguard trace out udp 10.0.1.10 10.0.0.2:53 --snapshot before/
  hepguard trace in tcp [2001:db8::7]:51522 [2001:db8::10]:22 -i ens5 --format json
  hepguard trace --conversation in tcp 203.0.113.7:51522 10.0.1.10:22 -i ens5
  hepguard trace --batch packets.jsonl
  hepguard trace out tcp 10.0.1.10 10.0.1.30:22 --policies export/    # rules by file and line";
