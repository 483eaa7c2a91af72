#!/usr/bin/env python3
"""compare_denies.py PROGRAM LOG TRUTH SHARE [TARGETS]: checks the counts of `hepguard denies` against the generator's truth, then
prints the best wall times, and the cpu times, of it and of its peers, with ratios, and what was aimed at. SHARE is the share of
deny lines, or `flows` for a log of flow-log JSON. TARGETS, if given, is a file the lines about aims are added to. Called by
compare-denies.sh."""
import json
import os
import resource
import shutil
import subprocess
import sys
import time

program, log, truth_path, share = sys.argv[1:5]
targets_path = sys.argv[5] if len(sys.argv) > 5 else os.devnull
ENV = dict(os.environ, TZ="UTC")
NUMBERS = {"tcp": "6", "udp": "17", "icmp": "1", "ipv6-icmp": "58", "sctp": "132"}


def ask(*options):
    """The answer of `denies`; status 3 says that part of it is missing, which would be wrong here."""
    command = [program, "denies", log, "--format", "json", *options]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, env=ENV, check=True).stdout)


def compare(pairs, found, wanted):
    wrong = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    different = [key for key in set(found) | set(wanted) if found.get(key) != wanted.get(key)]
    if wrong or different:
        sys.exit("counts differ from the truth: %s, %d keys, such as %s" % (wrong, len(different), different[:3]))
    print("counts equal the truth: " + ", ".join("%s %d" % (name, pair[0]) for name, pair in pairs.items()))


def check(truth):
    """Every key, count and sum must equal the truth."""
    fields = "policy,tier,direction,proto,dst_port,icmp_type,icmp_code,src_ip"
    answer = ask("--source", "felix", "--group-by", fields)
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
    # the filter must find what the truth has, and packet lines without a verdict must be counted, not taken for denies
    some = ask("--source", "felix", "--src-ip", "10.0.1.10", "--dst-port", "443")
    rows = [row for row in truth["keys"] if row[4] == "443" and row[5] == "10.0.1.10"]
    pairs["filtered events"] = (some["events"], sum(row[6] + row[7] for row in rows))
    silent = sum(count for prefix, count in truth["kernel_log"].items() if prefix.startswith("calico-packet"))
    pairs["packets without verdict"] = (sum(file["no_verdict"] for file in ask()["files"]), silent)
    compare(pairs, found, wanted)


def check_flows(truth):
    """Every key, count and sum of the flow logs."""
    answer = ask("--group-by", "policy,tier,direction,proto,dst_port,src_ip")
    found = {}
    for group in answer["groups"]:
        key = group["key"]
        port = "-" if key["dst_port"] is None else str(key["dst_port"])
        proto = {"ipv6-icmp": "icmp6"}.get(key["proto"], key["proto"])
        name = (key["policy"], key["tier"], key["direction"], proto, port, key["src_ip"] or "-")
        found[name] = (group["count"], group["packets"], group["bytes"])
    wanted = {tuple(map(str, row[:6])): (row[6], row[8] + row[10], row[9] + row[11]) for row in truth["keys"]}
    file = answer["files"][0]
    pairs = {
        "events": (answer["events"], truth["deny_lines"]),
        "cut lines": (file["malformed"], truth["malformed"]),
        "lines": (file["lines"], truth["lines"]),
        "bytes": (file["bytes"], truth["bytes"]),
        "keys": (len(found), len(wanted)),
    }
    compare(pairs, found, wanted)


def once(command):
    """Wall and cpu time of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    subprocess.run(command, shell=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENV, check=False)
    elapsed = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(rows):
    """All times of all commands, in turns, so that a machine that is slow for some seconds is slow for each of them; one run of
    each to warm up."""
    times = {name: [] for name, _, _ in rows}
    for attempt in range(1 + max(runs for _, _, runs in rows)):
        for name, command, runs in rows:
            if attempt <= runs:
                times[name].append(once(command))
    return {name: runs[1:] for name, runs in times.items()}


def peak_memory(*command):
    """Peak memory of a program in bytes, its own and the pages of its file; looked at all the time, since it is reached at the end."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENV)
    peak = 0
    while child.poll() is None:
        try:
            with open("/proc/%d/status" % child.pid) as status:
                lines = [line for line in status if line.startswith("VmHWM")]
            peak = max([peak] + [int(line.split()[1]) * 1024 for line in lines])
        except OSError:
            pass
    return peak


def three(tool):
    return "%s deny %s | %s 'srcIP=\"10.0.1.10\"' | %s 'dstPort=\"443\"'" % (tool, log, tool, tool)


# slow peers are run less often
ROUNDS = 9
denies = "%s denies %s" % (program, log)
SYSLOG = [
    ("grep -a | grep -a | grep -a", three("grep -a"), ROUNDS),
    ("wc -l", "wc -l %s" % log, ROUNDS),
    ("denies --src-ip --dst-port", denies + " --src-ip 10.0.1.10 --dst-port 443", ROUNDS),
    ("denies --source felix", denies + " --source felix", ROUNDS),
    ("denies --source felix, one core", "taskset -c 0 %s --source felix" % denies, ROUNDS),
    ("denies", denies, ROUNDS),
    ("denies, one core", "taskset -c 0 " + denies, ROUNDS),
    ("rg -a | rg -a | rg -a", three("rg -a"), ROUNDS),
    ("agrind, count by two fields", "agrind -f %s '\"action=\\\"deny\\\"\" | parse \"dstPort=\\\"*\\\"\" as port | parse "
     "\"srcIP=\\\"*\\\"\" as src | count by src, port'" % log, 1),
    ("lnav -n, SQL count", "lnav -n -c \";SELECT count(*) FROM syslog_log WHERE log_body LIKE '%%action=\\\"deny\\\"%%'\" %s"
     % log, 1),
]
FLOWS = [
    ("grep deny | jq", "LC_ALL=C grep -a '\"action\":\"deny\"' %s | jq -R 'fromjson?'" % log, 2),
    ("wc -l", "wc -l %s" % log, ROUNDS),
    ("denies", denies, ROUNDS),
    ("denies, one core", "taskset -c 0 " + denies, ROUNDS),
    ("grep -i deny alone", "grep -ai deny %s" % log, ROUNDS),
]

with open(truth_path) as handle:
    TRUTH = json.load(handle)
if share == "flows":
    check_flows(TRUTH)
    print("flow logs, 10 %% of them denies, %d bytes" % os.path.getsize(log))
else:
    check(TRUTH)
    print("%s of deny lines, %d bytes" % (share, os.path.getsize(log)))
size = os.path.getsize(log)


def installed(name, command):
    tool = "jq" if "jq" in name else command.split()[0]
    return shutil.which(tool) is not None


def best(name):
    return tuple(min(column) for column in zip(*times[name]))


rows = FLOWS if share == "flows" else SYSLOG
times = measure([row for row in rows if installed(*row[:2])])
base = best(next(iter(times)))
print("%-34s %8s %8s %7s   of the first: %s" % ("", "wall s", "cpu s", "GB/s", "wall   cpu"))
for name, command, _ in rows:
    if name not in times:
        print("%-34s not installed" % name)
        continue
    wall, cpu = best(name)
    ratios = "%16.2f %5.2f" % (wall / base[0], cpu / base[1])
    print("%-34s %8.3f %8.3f %7.2f   %s" % (name, wall, cpu, size / wall / 1e9, ratios))
sys.stdout.flush()

# what the project aims at: on two idle cores by the clock; on a busy machine the same in cpu time says more
aims = []


def ratio(what, name, other, most):
    if name in times and other in times:
        wall, cpu = (mine / theirs for mine, theirs in zip(best(name), best(other)))
        rounds = sorted(mine[0] / theirs[0] for mine, theirs in zip(times[name], times[other]))
        more = "%.2f to %.2f, middle %.2f; %.2f of the cpu time" % (rounds[0], rounds[-1], rounds[len(rounds) // 2], cpu)
        aims.append((what, "%.2f" % wall, "at most %.2f" % most, wall <= most, more))


if share == "flows":
    ratio("time of grep | jq", "denies", "grep deny | jq", 0.2)
else:
    ratio("time of the three greps", "denies", "grep -a | grep -a | grep -a", 0.4)
    if float(share) <= 0.01:
        ratio("time of wc -l", "denies", "wc -l", 1.3)
    least = {0.1: 2.0, 0.9: 1.0}.get(float(share))
    if least and "denies, one core" in times:
        wall, cpu = best("denies, one core")
        aims.append(("GB/s on one core", "%.2f" % (size / wall / 1e9), "at least %.1f" % least, size / wall / 1e9 >= least,
                     "%.2f by cpu time" % (size / cpu / 1e9)))
    keys = ask()["groups_total"]
    peak, most = peak_memory(program, "denies", log), 20e6 + 200 * keys
    aims.append(("memory in MB, %d keys" % keys, "%.1f" % (peak / 1e6), "at most %.1f" % (most / 1e6), peak <= most, ""))
with open(targets_path, "a") as targets:
    for what, found, aim, good, more in aims:
        line = "%-6s %-28s %8s  %-14s %-5s %s" % (share, what, found, aim, "PASS" if good else "over", more)
        print(line)
        targets.write(line + "\n")
