#!/bin/sh
# Every headline figure of the documentation, one after the other: what packaging/doc/performance.md quotes.
#
#   sudo tests/benches/headlines.sh [OFFICE]      OFFICE: a checkout of github.com/diekmann/net-network
#
# Builds the release build, then runs the single scripts at the sizes below; about a quarter of an hour on two idle cores.
# Each script checks its answers before it prints a figure, and says what it needs; one that cannot run is said to be left out,
# and the exit code is 1. PARTS names some of: audit reach plan trace denies follow idle forward.
# SIZE (256MiB) is the log that denies are counted in, SECONDS (20) how long lines are followed at each rate.
set -u
cd "$(dirname "$0")/../.."
PARTS=${PARTS:-audit reach plan trace denies follow idle forward}
SIZE=${SIZE:-256MiB}
SECONDS=${SECONDS:-20}
export SECONDS
left=""

part() { # name, what it is, command...
    name=$1
    case " $PARTS " in *" $name "*) ;; *) return ;; esac
    printf '\n== %s: %s\n\n' "$name" "$2"
    shift 2
    "$@" || left="$left $name"
}

cargo build --quiet --locked --release --bin hepguard --example make_bastion --example make_planned || exit 2
printf '%s, %s cores, %s\n' "$(target/release/hepguard --version)" "$(nproc)" "$(uname -sr)"

part audit "beside the kernel's own dump of the same rules and sets" tests/benches/compare-audit.sh
if [ $# -gt 0 ]; then
    part reach "all packets of real office firewalls and of Felix's shape" cargo bench --quiet --locked --bench office -- "$1"
else
    part reach "all packets of hosts in Felix's shape (no checkout of office firewalls given)" \
        cargo bench --quiet --locked --bench office
fi
part plan "five changes on a bastion with 200 policies" tests/benches/plan.sh
part trace "packets through 5,000 rules, beside the kernel" env PACKETS="${PACKETS:-20000}" python3 tests/benches/compare_trace.py
part denies "beside the admin's greps, ripgrep, lnav, angle-grinder, jq" \
    tests/benches/compare-denies.sh "$SIZE" 0.01 0.10 0.90 flows
part follow "lines into a rotating file" python3 tests/benches/follow.py
part idle "the daemon with 5,000 rules and a set of 100,000 while nothing happens" \
    cargo test --quiet --locked --release --test watch_idle -- --nocapture
part forward "over RELP, beside rsyslog's own forwarding" python3 tests/benches/compare_forward.py "${EVENTS:-60000}"

[ -z "$left" ] || { printf '\nnot measured, or an aim was missed:%s\n' "$left"; exit 1; }
