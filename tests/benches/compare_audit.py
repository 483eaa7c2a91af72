"""Times an audit and its peers; see compare-audit.sh. Arguments: the program, then RULES/MEMBERS/FOLDER for each size."""

import os
import shutil
import subprocess
import sys
import tempfile

ROUNDS = 5
DUMPS = ("iptables-legacy-save.txt", "ip6tables-legacy-save.txt", "ipset-save.txt")
TOOLS = ("unshare", "ipset", "iptables-legacy-restore", "ip6tables-legacy-restore")


def run(command, good=(0,)):
    """Cpu seconds and peak memory in MB of a command."""
    # no /dev/null: with that, grep stops at the first line
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(command, stdout=out, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if child.returncode not in good:
            sys.exit(f"{command[0]} ended with {child.returncode}: {errors.read().decode(errors='replace')}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def best(command, good=(0,)):
    results = [run(command, good) for _ in range(ROUNDS)]
    return min(cpu for cpu, _ in results), max(memory for _, memory in results)


def proven(program, folder):
    """The audit must have read everything and proven every rule: no finding of these families, but that idle rules were not all
    looked for, which hosts of this size are too large for."""
    out = subprocess.run([program, "audit", "--snapshot", folder, "--format", "jsonl"], stdout=subprocess.PIPE, check=False)
    bad = [line for line in out.stdout.decode().splitlines() if '"code":"HG3' in line or '"code":"HG9' in line and "HG910" not in line]
    if bad or not out.stdout:
        sys.exit(f"the audit of {folder} is not what it should be: {bad[:3]}")


def kernel_dump(folder):
    """Cpu seconds of dumping the rules and sets from a namespace that holds them; None when that is not possible."""
    if os.geteuid() != 0 or not all(shutil.which(tool) for tool in TOOLS):
        return None
    load = ("ipset restore -file ipset-save.txt && iptables-legacy-restore -c -w 10 iptables-legacy-save.txt && "
            "ip6tables-legacy-restore -c -w 10 ip6tables-legacy-save.txt || exit 9; ")
    dump = "iptables-legacy-save -c >/dev/null; ip6tables-legacy-save -c >/dev/null; ipset save >/dev/null"
    # `times` tells the children's cpu so far: once behind the loading, once behind the dumps
    script = f"cd '{folder}' && {load} times; for round in 1 2 3 4 5; do {dump}; done; times"
    try:
        out = subprocess.run(["timeout", "300", "unshare", "-n", "bash", "-c", script], capture_output=True, check=False)
    except OSError:
        return None
    if out.returncode:
        print(f"  (not loaded into a namespace: {out.stderr.decode(errors='replace').strip()[:200]})", file=sys.stderr)
        return None

    def seconds(line):
        minutes = [part.rstrip("s").split("m") for part in line.split()]
        return sum(60 * int(m) + float(s) for m, s in minutes)

    lines = out.stdout.decode().splitlines()
    return (seconds(lines[3]) - seconds(lines[1])) / ROUNDS


def main():
    program = sys.argv[1]
    print("| rules | members | `audit` cpu s | peak MB | `cat` cpu s | `grep -c .` cpu s | kernel dump cpu s | audit / grep | audit / dump |")
    print("|---|---|---|---|---|---|---|---|---|")
    for size in sys.argv[2:]:
        rules, members, folder = size.split("/", 2)
        proven(program, folder)
        dumps = [os.path.join(folder, name) for name in DUMPS]
        # findings are no failure
        audit, memory = best([program, "audit", "--snapshot", folder], good=(0, 1))
        cat, _ = best(["cat", *dumps])
        grep, _ = best(["grep", "-c", ".", *dumps])
        dump = kernel_dump(folder)
        dump_text = f"{dump:.3f}" if dump is not None else "not measured"
        dump_ratio = f"{audit / dump:.1f}" if dump else "-"
        print(f"| {rules} | {members} | {audit:.3f} | {memory:.0f} | {cat:.3f} | {grep:.3f} | {dump_text} "
              f"| {audit / max(grep, 0.001):.0f} | {dump_ratio} |", flush=True)


if __name__ == "__main__":
    main()
