#!/usr/bin/env python3
"""compare_denies.py PROGRAM LOG TRUTH SHARE: checks the counts of `hepguard denies` against the generator's truth, then
prints the best of five wall times, and the cpu times, of it and of its peers, with ratios. Called by compare-denies.sh."""
import json
import os
import resource
import subprocess
import sys
import time

program, log, truth_path, share = sys.argv[1:5]
ENV = dict(os.environ, TZ="UTC")
NUMBERS = {"tcp": "6", "udp": "17", "icmp": "1", "ipv6-icmp": "58", "sctp": "132"}


def check():
    """Every key, count and sum must equal the truth."""
    with open(truth_path) as handle:
        truth = json.load(handle)
    fields = "policy,tier,direction,proto,dst_port,icmp_type,icmp_code,src_ip"
    command = [program, "denies", log, "--source", "felix", "--format", "json", "--group-by", fields]
    answer = json.loads(subprocess.run(command, stdout=subprocess.PIPE, env=ENV, check=True).stdout)
    found = {}
    for group in answer["groups"]:
        key = group["key"]
        port = key["dst_port"]
        if port is None:
            port = (key["icmp_type"] or 0) * 256 + (key["icmp_code"] or 0)
        name = (key["policy"], key["tier"], key["direction"], NUMBERS[key["proto"]], str(port), key["src_ip"])
        found[name] = (group["count"], group["packets"], group["bytes"])
    wanted = {tuple(row[:6]): (row[6] + row[7], row[8] + row[10], row[9] + row[11]) for row in truth["keys"]}
    file = answer["files"][0]
    pairs = {
        "events": (answer["events"], truth["deny_events"]),
        "repeats": (answer["repeats"], truth["deny_repeats"]),
        "malformed": (file["malformed"], truth["malformed"]),
        "lines": (file["lines"], truth["lines"]),
        "bytes": (file["bytes"], truth["bytes"]),
        "keys": (len(found), len(wanted)),
    }
    different = [key for key in set(found) | set(wanted) if found.get(key) != wanted.get(key)]
    # the filter must find what the truth has, and packet lines without a verdict must be counted, not taken for denies
    command = [program, "denies", log, "--format", "json"]
    some = command + ["--source", "felix", "--src-ip", "10.0.1.10", "--dst-port", "443"]
    some = json.loads(subprocess.run(some, stdout=subprocess.PIPE, env=ENV, check=True).stdout)
    rows = [row for row in truth["keys"] if row[4] == "443" and row[5] == "10.0.1.10"]
    pairs["filtered events"] = (some["events"], sum(row[6] + row[7] for row in rows))
    packets = json.loads(subprocess.run(command, stdout=subprocess.PIPE, env=ENV, check=True).stdout)
    silent = sum(count for prefix, count in truth["kernel_log"].items() if prefix.startswith("calico-packet"))
    pairs["packets without verdict"] = (sum(file["no_verdict"] for file in packets["files"]), silent)
    wrong = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if wrong or different:
        sys.exit("counts differ from the truth: %s, %d keys, such as %s" % (wrong, len(different), different[:3]))
    print("counts equal the truth: " + ", ".join("%s %d" % (name, pair[0]) for name, pair in pairs.items()))


def measure(command):
    """Best wall time and best cpu time of five runs after one to warm up."""
    wall = cpu = float("inf")
    for attempt in range(6):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.monotonic()
        subprocess.run(command, shell=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENV, check=False)
        elapsed = time.monotonic() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if attempt:
            wall = min(wall, elapsed)
            cpu = min(cpu, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return wall, cpu


check()
greps = "grep -a deny %s | grep -a 'srcIP=\"10.0.1.10\"' | grep -a 'dstPort=\"443\"'" % log
rows = [
    ("grep -a | grep -a | grep -a", greps),
    ("wc -l", "wc -l %s" % log),
    ("hepguard denies --src-ip --dst-port", "%s denies %s --src-ip 10.0.1.10 --dst-port 443" % (program, log)),
    ("hepguard denies, all", "%s denies %s" % (program, log)),
    ("  --source felix", "%s denies %s --source felix" % (program, log)),
    ("  --source felix, one core", "taskset -c 0 %s denies %s --source felix" % (program, log)),
]
size = os.path.getsize(log)
base = None
print("%s of deny lines, %d bytes" % (share, size))
print("%-38s %8s %8s %7s %22s" % ("", "wall s", "cpu s", "GB/s", "of the greps: wall cpu"))
for name, command in rows:
    wall, cpu = measure(command)
    base = base or (wall, cpu)
    print("%-38s %8.3f %8.3f %7.2f %16.2f %5.2f" % (name, wall, cpu, size / wall / 1e9, wall / base[0], cpu / base[1]))
sys.stdout.flush()
