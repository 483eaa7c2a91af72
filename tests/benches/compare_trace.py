#!/usr/bin/env python3
"""Verdicts a second of `hepguard trace --batch`, beside the kernel's own: compare_trace.py [PROGRAM]

As root: makes rulesets of RULES rules (5,000), flat and in Felix's shape, in iptables' and nft's form, loads each into a private
network namespace, sends PACKETS packets (100,000) into it through a TUN device, and traces the same packets through its
listing. Both must accept the same number. Prints cpu seconds; the kernel's are those of the loop that writes the packets,
less the same loop without rules.
"""

import fcntl
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RULES = int(os.environ.get("RULES", 5000))
PACKETS = int(os.environ.get("PACKETS", 100_000))
HOST, DEVICE = "10.0.1.10", "t0"
PER_POLICY = 25


def entry(n):
    """Source network, port and verdict of rule n."""
    return f"10.{1 + n // 250 % 250}.{n % 250}.0/24", 1024 + n * 7 % 60_000, n % 3 != 0


def flat_iptables():
    lines = ["*filter", ":INPUT DROP [0:0]", ":FORWARD ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]"]
    for n in range(RULES):
        net, port, accept = entry(n)
        lines.append(f"-A INPUT -s {net} -p tcp -m tcp --dport {port} -j {'ACCEPT' if accept else 'DROP'}")
    return "\n".join([*lines, "COMMIT", ""])


def felix_iptables():
    """Dispatch by interface, policies that set mark bits, a drop at the end of the tier."""
    policies = -(-RULES // (2 * PER_POLICY))
    chains = ["cali-INPUT", "cali-from-hep", "cali-fh-t0", *(f"cali-pi-{p}" for p in range(policies))]
    head = ["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", *(f":{c} - [0:0]" for c in chains)]
    lines = [
        "-A INPUT -j cali-INPUT",
        "-A cali-INPUT -j MARK --set-xmark 0x0/0xf0000",
        "-A cali-INPUT -j cali-from-hep",
        "-A cali-INPUT -m mark --mark 0x10000/0x10000 -j ACCEPT",
        f"-A cali-from-hep -i {DEVICE} -g cali-fh-t0",
    ]
    for p in range(policies):
        lines += [f"-A cali-fh-t0 -m mark --mark 0x0/0x20000 -j cali-pi-{p}", "-A cali-fh-t0 -m mark --mark 0x10000/0x10000 -j RETURN"]
    lines.append("-A cali-fh-t0 -j DROP")
    for p in range(policies):
        for n in range(p * PER_POLICY, (p + 1) * PER_POLICY):
            net, port, accept = entry(n)
            match = f"-A cali-pi-{p} -s {net} -p tcp -m multiport --dports {port}"
            if accept:
                lines += [f"{match} -j MARK --set-xmark 0x10000/0x10000", f"-A cali-pi-{p} -m mark --mark 0x10000/0x10000 -j RETURN"]
            else:
                lines.append(f"{match} -j DROP")
    return "\n".join([*head, *lines, "COMMIT", ""])


def flat_nft():
    rules = []
    for n in range(RULES):
        net, port, accept = entry(n)
        rules.append(f"ip saddr {net} tcp dport {port} {'accept' if accept else 'drop'}")
    return "table ip t {\nchain in { type filter hook input priority 0; policy drop;\n" + "\n".join(rules) + "\n}\n}\n"


def felix_nft():
    policies = -(-RULES // (2 * PER_POLICY))
    out = ["table ip calico {"]
    for p in range(policies):
        out.append(f"chain pi-{p} {{")
        for n in range(p * PER_POLICY, (p + 1) * PER_POLICY):
            net, port, accept = entry(n)
            match = f"ip saddr {net} tcp dport {{ {port} }}"
            if accept:
                out += [f"{match} meta mark set meta mark | 0x10000", "meta mark & 0x10000 == 0x10000 return"]
            else:
                out.append(f"{match} drop")
        out.append("}")
    out.append("chain fh-t0 {")
    for p in range(policies):
        out += [f"meta mark & 0x20000 == 0 jump pi-{p}", "meta mark & 0x10000 == 0x10000 return"]
    out += ["drop", "}", f'chain from-hep {{ iifname vmap {{ "{DEVICE}" : goto fh-t0 }}', "}"]
    out += ["chain in { type filter hook input priority 0; policy accept;", "meta mark set meta mark & 0xfff0ffff", "jump from-hep",
            "meta mark & 0x10000 == 0x10000 accept", "}", "}", ""]
    return "\n".join(out)


def packets():
    """(source, port) of each packet: nine of ten hit a rule."""
    dice = random.Random(3)
    made = []
    for _ in range(PACKETS):
        net, port, _ = entry(dice.randrange(RULES // 2))
        source = net.replace(".0/24", f".{dice.randrange(1, 255)}")
        made.append((source, port if dice.random() < 0.9 else 80))
    return made


def wire(source, port):
    """An IPv4 TCP SYN; the namespace checks no checksum of TCP, and of IP this one."""
    address = lambda text: bytes(int(part) for part in text.split("."))
    head = bytearray(struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 1, 0, 64, 6, 0, address(source), address(HOST)))
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    struct.pack_into("!H", head, 10, ~(total + (total >> 16)) & 0xFFFF)
    return bytes(head) + struct.pack("!HHIIBBHHH", 40000, port, 1, 0, 0x50, 2, 1024, 0, 0)


def inside(form, rules, folder):
    """Runs in the namespace: loads, lists, sends; prints accepted and cpu seconds."""
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", DEVICE.encode(), 0x1001))
    for command in (f"ip link set {DEVICE} up", f"ip addr add {HOST}/8 dev {DEVICE}", "ip link set lo up"):
        subprocess.run(command.split(), **quiet)
    for name in ("all", DEVICE):
        Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("0")
    probe = "table inet probe {\nchain in {\ntype filter hook input priority 2147483646;\ncounter drop\n}\n}\n"
    wires = [wire(source, port) for source, port in packets()]

    def send():
        before = resource.getrusage(resource.RUSAGE_SELF)
        write = os.write
        for packet in wires:
            write(device, packet)
        after = resource.getrusage(resource.RUSAGE_SELF)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    subprocess.run(["nft", probe], **quiet)
    bare = min(send() for _ in range(3))
    subprocess.run(["nft", "delete table inet probe"], **quiet)
    if form == "iptables":
        subprocess.run(["iptables-legacy-restore", "-w", "10"], input=Path(rules).read_bytes(), **quiet)
        listing, tool = "iptables-legacy-save.txt", ["iptables-legacy-save", "-c"]
    else:
        subprocess.run(["nft", "-f", rules], **quiet)
        listing, tool = "nft-ruleset.json", ["nft", "-j", "list", "ruleset"]
    with open(Path(folder) / listing, "wb") as out:
        subprocess.run(tool, check=True, stdout=out)
    subprocess.run(["nft", probe], **quiet)
    full = min(send() for _ in range(3))
    ruleset = json.loads(subprocess.run(["nft", "-j", "list", "table", "inet", "probe"], check=True, capture_output=True).stdout)
    counted = next(one["rule"]["expr"][0]["counter"]["packets"] for one in ruleset["nftables"] if "rule" in one)
    for name, command in (("ip-addr.json", "ip -j addr"), ("ip-route.json", "ip -j route show table all"), ("ip-rule.json", "ip -j rule")):
        (Path(folder) / name).write_bytes(subprocess.run(command.split(), check=True, capture_output=True).stdout)
    (Path(folder) / "sysctl.txt").write_text("net.ipv4.conf.all.rp_filter = 0\nnet.ipv4.conf.t0.rp_filter = 0\n")
    print(json.dumps({"accepted": counted // 3, "bare": bare, "full": full}))


def traced(program, folder, lines):
    """Cpu seconds and peak MB of a batch, and how many it accepts."""
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen([program, "trace", "--snapshot", folder, "--batch", "-"], stdin=subprocess.PIPE, stdout=out)
        child.stdin.write(lines)
        child.stdin.close()
        _, _, usage = os.wait4(child.pid, 0)
        child.returncode = 0
        out.seek(0)
        answers = out.read()
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, answers.count(b'"verdict":"accept"'), answers.count(b'"verdict":"unknown"')


def main():
    if len(sys.argv) > 4 and sys.argv[1] == "inside":
        return inside(*sys.argv[2:5])
    program = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "target/release/hepguard")
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nft", "iptables-legacy-restore"))):
        sys.exit("needs root, unshare, nft and iptables-legacy: the kernel is the peer")
    batch = "".join(
        json.dumps({"dir": "in", "proto": "tcp", "src": source, "sport": 40000, "dst": HOST, "dport": port, "iif": DEVICE}) + "\n"
        for source, port in packets()
    ).encode()
    first = batch[: batch.index(b"\n") + 1]
    print("| ruleset | load, cpu s | verdicts/s | us per verdict | kernel us per packet | its rules alone | MB |\n|---|---|---|---|---|---|---|")
    for name, form, text in (("iptables flat", "iptables", flat_iptables()), ("iptables Felix", "iptables", felix_iptables()),
                             ("nft flat", "nft", flat_nft()), ("nft Felix", "nft", felix_nft())):
        with tempfile.TemporaryDirectory() as folder:
            rules = Path(folder) / "rules"
            rules.write_text(text)
            snapshot = Path(folder) / "snapshot"
            snapshot.mkdir()
            command = ["unshare", "-n", sys.executable, __file__, "inside", form, str(rules), str(snapshot)]
            told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=900).stdout)
            load = min(traced(program, snapshot, first)[0] for _ in range(3))
            runs = [traced(program, snapshot, batch) for _ in range(3)]
        cpu, memory, accepted, unknown = min(runs)
        if accepted != told["accepted"] or unknown:
            sys.exit(f"{name}: hepguard accepts {accepted} ({unknown} unknown), the kernel {told['accepted']}")
        each = (cpu - load) / PACKETS
        print(f"| {name} | {load:.3f} | {1 / each:,.0f} | {each * 1e6:.1f} | {told['full'] / PACKETS * 1e6:.1f} | "
              f"{(told['full'] - told['bare']) / PACKETS * 1e6:.1f} | {memory:.0f} |", flush=True)


main()
