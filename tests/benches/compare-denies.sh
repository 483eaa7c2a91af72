#!/bin/sh
# Times `hepguard denies` against the admin's three greps and other tools on a generated log, and checks its counts against the
# generator's.
#
#   tests/benches/compare-denies.sh [SIZE] [SHARE...]      default: 1GiB, deny shares 0.01 0.10 0.90, then flow logs at 0.10
#   tests/benches/compare-denies.sh SIZE flows             flow logs alone
#
# Needs python3, grep and a release build (made when missing). ripgrep (rg), angle-grinder (agrind), lnav and jq are measured
# where they are installed; which are not is said (INSTALL=1 builds angle-grinder from crates.io into target/tools).
# At the end one table says for each aim of the project whether it was reached. Works in a folder of its own below TMPDIR, removed at the end unless KEEP=1.
# Each command runs once to warm the page cache and nine times for the clock (slow peers once or twice), in turns with the others; the best
# time counts, and the ratios of single rounds are shown beside it.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
size=${1:-1GiB}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- 0.01 0.10 0.90 flows

program=${HEPGUARD:-$root/target/release/hepguard}
[ -x "$program" ] || (cd "$root" && cargo build --release)

folder=$(mktemp -d "${TMPDIR:-/tmp}/hepguard-denies.XXXXXX")
[ "${KEEP:-0}" = 1 ] || trap 'rm -rf "$folder"' EXIT INT TERM

PATH=$root/target/tools/bin:$PATH
export PATH
if [ "${INSTALL:-0}" = 1 ] && ! command -v agrind >/dev/null 2>&1; then
    # the name means something else to the makefiles of its C library
    env -u INSTALL cargo install --quiet --root "$root/target/tools" ag || echo "angle-grinder cannot be had" >&2
fi

for share in "$@"; do
    log=$folder/log-$share
    if [ "$share" = flows ]; then
        python3 "$here/gen_syslog.py" --format flows --size "$size" --seed 1 --deny-ratio 0.10 --out "$log" --truth "$log.json"
    else
        python3 "$here/gen_syslog.py" --size "$size" --seed 1 --deny-ratio "$share" --out "$log" --truth "$log.json"
    fi
    python3 "$here/compare_denies.py" "$program" "$log" "$log.json" "$share" "$folder/aims"
    rm -f "$log"
done
echo
echo "share  what                            found  aimed at       reached"
cat "$folder/aims"
