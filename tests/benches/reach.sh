#!/bin/sh
# What `hepguard reach in tcp/22` costs on rulesets of Felix's shape, reading included: CPU seconds and peak memory.
# Needs python3 and GNU time; measures the release build.
set -eu
cd "$(dirname "$0")/../.."
cargo build --quiet --release
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for policies in 9 90 200 900 4500; do
    python3 tests/benches/policies.py "$policies" "$folder"
    rules=$(grep -c '^-A' "$folder/iptables-legacy-save.txt")
    /usr/bin/time -f "$policies policies, $rules rules: %U s user, %S s system, %M KB" \
        target/release/hepguard reach in tcp/22 --family ipv4 --snapshot "$folder" >"$folder/out"
done
