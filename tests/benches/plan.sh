#!/bin/sh
# What `hepguard plan` costs on a bastion with many policies (200, or the first argument): cpu and wall seconds, peak memory.
#
#   cargo build --release --bin hepguard --example make_planned && tests/benches/plan.sh
#
# Prints the best of three for each form of change. Stops when a plan is not proven (its rules rendered again hash for hash), not
# whole, or takes more than two seconds of cpu time (it runs on one core; wall time is that of an idle machine).
# PROFILE names another build profile than release. Needs python3 and GNU time.
set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)
built=${CARGO_TARGET_DIR:-$here/target}/${PROFILE:-release}
policies=${1:-200}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
rules=$("$built/examples/make_planned" "$dir" "$policies")
echo "$policies policies, $rules rules"

measure() { # name, change...
    name=$1
    shift
    best=""
    for _ in 1 2 3; do
        status=0
        /usr/bin/time -o "$dir/time" -f "%e %U %S %M" \
            "$built/hepguard" plan --snapshot "$dir/host" --format json "$@" >"$dir/plan" || status=$?
        [ "$status" -le 1 ] || { echo "$name: exit status $status" >&2; exit 1; }
        now=$(tail -1 "$dir/time")
        best=$(printf '%s\n%s\n' "$best" "$now" | grep . | sort -n -k2 | head -1)
    done
    # shellcheck disable=SC2086 # four words
    python3 - "$dir/plan" "$name" $best <<'PYTHON'
import json, sys
plan = json.load(open(sys.argv[1]))
name, wall, user, system, memory = sys.argv[2:]
fidelity = plan["fidelity"]
assert fidelity["rules"] == fidelity["verified"], fidelity
assert not plan["limits"] and not plan["not_compared"], (plan["limits"], plan["not_compared"])
sets = len(plan["newly_denied"]) + len(plan["newly_allowed"])
cpu = float(user) + float(system)
print(f"{name}: {cpu:.2f} s cpu, {wall} s wall, {int(memory) // 1024} MB; {plan['verdict']}, {sets} sets of packets")
assert cpu <= 2, "slower than two seconds"
PYTHON
}

measure "a policy changes" -f "$dir/changed.yaml"
measure "a policy comes" -f "$dir/new.yaml"
measure "a policy goes" --delete "gnp/security.p$((policies / 2))"
measure "a list changes" --set FailsafeInboundHostPorts=tcp:22,udp:68
measure "Felix restarts" --felix restart
