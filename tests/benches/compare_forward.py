#!/usr/bin/env python3
"""compare_forward.py [EVENTS]: forwards a log of denies over RELP to an rsyslog, once with rsyslog's own imfile and omrelp and a
queue on the disk, once with `hepguard watch`, each deny by itself and then summed; prints throughput, cpu time and memory of the
sender, and their ratios. Needs root, rsyslogd with imrelp and omrelp, and a release build (HEPGUARD names another program).
Runs in a network namespace of its own with nothing but a loopback. What was sent must arrive, each deny once or more."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.environ.get("HEPGUARD", os.path.join(HERE, "../../target/release/hepguard"))
EVENTS = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
PATIENCE = 600
TICK = os.sysconf("SC_CLK_TCK")

LINE = ('Aug  4 16:%02d:%02d bastion calico-felix[3561]: INFO <nil> <nil>:  action="deny" dstIP="147.75.40.148" dstPort="443" '
        'inBytes=0 inPackets=0 outBytes=%d outPackets=1 policy="hep-external" proto="6" rule="-1" ruleDir="egress" '
        'srcIP="10.0.%d.%d" srcPort="%d" tier="security" trafficDir="outbound" updateType=report\n')

SINK = '''global(workDirectory="{at}/sink" maxMessageSize="64k")
module(load="imrelp")
template(name="dump" type="list") {{ property(name="structured-data") constant(value=" | ") property(name="msg") constant(value="\\n") }}
ruleset(name="rx") {{ action(type="omfile" file="{at}/sink/out.log" template="dump" flushOnTXEnd="on") }}
input(type="imrelp" port="2514" address="127.0.0.1" ruleset="rx")
'''

SENDER = '''global(workDirectory="{at}/sender" maxMessageSize="64k")
module(load="imfile" mode="inotify") module(load="omrelp")
ruleset(name="tx") {{ action(type="omrelp" target="127.0.0.1" port="2514" template="RSYSLOG_SyslogProtocol23Format"
  queue.type="LinkedList" queue.filename="out" queue.maxDiskSpace="512m" queue.saveOnShutdown="on" action.resumeRetryCount="-1") }}
input(type="imfile" file="{at}/log" tag="calico-felix" ruleset="tx" freshStartTail="off")
'''

DAEMON = '''[logs]
files = ["{at}/log"]
from = "beginning"
journal = "off"
[state]
directory = "{at}/state"
socket = "{at}/status.sock"
[metrics]
socket = "off"
[[forward]]
name = "siem"
transport = "relp"
address = "127.0.0.1:2514"
denies = "{denies}"
sum-over = "1s"
max-bytes = 536870912
'''


def tree(pid):
    """A process and all below it."""
    found = [pid]
    for parent in found:
        try:
            for task in os.listdir("/proc/%d/task" % parent):
                with open("/proc/%d/task/%s/children" % (parent, task)) as children:
                    found.extend(int(child) for child in children.read().split())
        except OSError:
            pass
    return found


def used(pid):
    """Cpu seconds of a process and what is below it, ended children included, and bytes of their own memory at most."""
    cpu = memory = 0
    for one in tree(pid):
        try:
            with open("/proc/%d/stat" % one) as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            cpu += sum(int(field) for field in (fields[11:15] if one == pid else fields[11:13])) / TICK
            with open("/proc/%d/status" % one) as status:
                memory += sum(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))
        except OSError:
            pass
    return cpu, memory


def start(*command):
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def stop(process, how=signal.SIGTERM):
    process.send_signal(how)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def arrived(at, wanted, summed):
    """Whether all denies are with the collector: lines, or what the sums say."""
    try:
        with open(at + "/sink/out.log", errors="replace") as lines:
            denies = [line for line in lines if "[deny@" in line or 'action="deny"' in line]
    except OSError:
        return False
    if summed:
        return sum(int(line.split(' n="')[1].split('"')[0]) if ' n="' in line else 1 for line in denies) >= wanted
    return len(denies) >= wanted


def run(name, config, command, summed=False):
    with tempfile.TemporaryDirectory() as at:
        for folder in ("sink", "sender"):
            os.mkdir(os.path.join(at, folder))
        with open(at + "/log", "w") as log:
            for number in range(EVENTS):
                second = number * 1800 // EVENTS
                log.write(LINE % (10 + second // 60, second % 60, 60, number % 7, number % 200, 1024 + number % 60000))
        for file, text in (("sink.conf", SINK), ("sender.conf", config)):
            with open(os.path.join(at, file), "w") as out:
                out.write(text.format(at=at, denies="summed" if summed else "each"))
        sink = start("rsyslogd", "-n", "-f", at + "/sink.conf", "-i", at + "/sink.pid")
        time.sleep(1)
        began, peak, cpu = time.monotonic(), 0, 0
        sender = start(*[word.format(at=at) for word in command])
        try:
            while not arrived(at, EVENTS, summed):
                if time.monotonic() - began > PATIENCE or sender.poll() is not None:
                    sys.exit("%s: not everything arrived" % name)
                for _ in range(5):
                    cpu, memory = used(sender.pid)
                    peak = max(peak, memory)
                    time.sleep(0.05)
            wall = time.monotonic() - began
        finally:
            stop(sender)
            stop(sink, signal.SIGKILL)
        return wall, cpu, peak


def main():
    if os.geteuid() != 0 or not shutil.which("rsyslogd"):
        sys.exit("needs root and rsyslogd")
    if os.environ.get("HEPGUARD_APART") != "1":
        inner = "ip link set lo up && exec python3 %s %d" % (os.path.abspath(__file__), EVENTS)
        os.execvpe("unshare", ["unshare", "-n", "sh", "-c", inner], dict(os.environ, HEPGUARD_APART="1"))
    rows = [
        ("rsyslog", SENDER, ["rsyslogd", "-n", "-f", "{at}/sender.conf", "-i", "{at}/sender.pid"], False),
        ("hepguard, each", DAEMON, [PROGRAM, "--config", "{at}/sender.conf", "watch"], False),
        ("hepguard, summed", DAEMON, [PROGRAM, "--config", "{at}/sender.conf", "watch"], True),
    ]
    print("%d denies over RELP to rsyslog, from a file\n%-18s %10s %10s %12s %10s   of rsyslog: cpu  memory"
          % (EVENTS, "", "events/s", "cpu s", "us an event", "peak MB"))
    base = None
    for name, config, command, summed in rows:
        wall, cpu, peak = run(name, config, command, summed)
        base = base or (cpu, peak)
        print("%-18s %10.0f %10.2f %12.1f %10.1f %17.2f %7.2f"
              % (name, EVENTS / wall, cpu, cpu / EVENTS * 1e6, peak / 1e6, cpu / base[0], peak / base[1]))
        sys.stdout.flush()


main()
