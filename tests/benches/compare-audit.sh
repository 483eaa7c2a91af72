#!/bin/sh
# What `hepguard audit --snapshot` costs for bastions of growing size, beside what it costs to read the same files, to count
# their lines, and (as root) to have the kernel dump the same rules and sets from a private network namespace.
#
#   cargo build --release --bin hepguard --example make_bastion && tests/benches/compare-audit.sh
#
# Prints the best of five in cpu seconds (user and system), the audit's peak memory, and ratios.
# Sizes are "rules/members" in SIZES; the folder in BENCH_DIR is kept when given.
set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)
built=${CARGO_TARGET_DIR:-$here/target}/release
SIZES=${SIZES:-1000/1000 10000/1000 10000/100000 50000/100000 10000/1000000}
dir=${BENCH_DIR:-$(mktemp -d)}
[ -n "${BENCH_DIR:-}" ] || trap 'rm -rf "$dir"' EXIT

for program in "$built/hepguard" "$built/examples/make_bastion"; do
    [ -x "$program" ] || { echo "missing $program: build it first, see the head of this file" >&2; exit 2; }
done

set --
for size in $SIZES; do
    rules=${size%/*} members=${size#*/}
    folder=$dir/$rules-$members
    count=$("$built/examples/make_bastion" "$folder" "$rules" "$members")
    set -- "$@" "$count/$members/$folder"
done
python3 "$here/tests/benches/compare_audit.py" "$built/hepguard" "$@"
