#!/usr/bin/env python3
"""What following a log costs `hepguard watch`: follow.py [PROGRAM]

Writes a generated log (`gen_syslog.py`, one line in ten a deny) into a file at each of RATES lines a second for SECONDS,
renames the file and begins a new one every ROTATE seconds as logrotate does (the old one is still written to for a moment), and
asks the daemon four times a second how many lines it has seen. Ends with an error unless it counts every line and every deny.
Prints the rate reached, the longest time a written line waited to be counted, cpu seconds of both processes for each second,
and the memory each took at most. Settings: RATES ("50000 300000 700000"), SECONDS (60), ROTATE (5), FOLDER (a tmpfs by default).
With RSYSLOG=1 the lines go to an rsyslogd over TCP (imtcp), which writes the file and is told of each rotation by SIGHUP.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("SECONDS", 60))
ROTATE = float(os.environ.get("ROTATE", 5))
RATES = [int(rate) for rate in os.environ.get("RATES", "50000 300000 700000").split()]
FOLDER = os.environ.get("FOLDER", "/dev/shm" if os.path.isdir("/dev/shm") else None)
LINES = 100_000  # of the text that is written again and again
KEEP = 3  # rotated files
RSYSLOG = os.environ.get("RSYSLOG") == "1"
TICK = os.sysconf("SC_CLK_TCK")


def generate(folder):
    """Lines, and how many of them the daemon must take for a deny."""
    text, truth = folder / "text", folder / "truth"
    command = [sys.executable, str(ROOT / "tests/benches/gen_syslog.py"), "--clean", "--format", "rfc3339", "--lines", str(LINES),
               "--deny-ratio", "0.1", "--out", str(text), "--truth", str(truth)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    told = json.loads(truth.read_text())
    lines = text.read_bytes().splitlines(keepends=True)
    # packets that a rule logged and dropped are denies of the kernel's own; UFW's are not in the truth
    kernel = sum(count for prefix, count in told["kernel_log"].items() if "drop" in prefix)
    kernel += sum(b"[UFW BLOCK]" in line for line in lines)
    return lines, told["deny_events"] + kernel


def status(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        pieces = []
        while piece := client.recv(1 << 16):
            pieces.append(piece)
    return json.loads(b"".join(pieces))


def used(pid):
    """Cpu seconds so far and the most memory (MB) of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    peak = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / TICK, int(peak.split()[1]) / 1024


class File:
    """The log, written to directly."""

    mark = b""  # in front of each line

    def __init__(self, log):
        self.log, self.file = log, open(log, "ab", buffering=0)

    def write(self, piece):
        self.file.write(piece)

    def reopen(self):
        self.file.close()
        self.file = open(self.log, "ab", buffering=0)

    def close(self):
        self.file.close()


class Rsyslog:
    """An rsyslogd in front of the log: lines come to it over TCP, as a collector gets them."""

    mark = b"<14>"

    def __init__(self, log):
        folder = log.parent
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (folder / "rsyslog.conf").write_text(
            f'global(workDirectory="{folder}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off")\n'
            f'module(load="imtcp")\ninput(type="imtcp" port="{port}" address="127.0.0.1")\n'
            'template(name="as-sent" type="string" string="%rawmsg-after-pri%\\n")\n'
            f'action(type="omfile" file="{log}" template="as-sent")\n'
        )
        program = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin:/sbin") or "rsyslogd"
        command = [program, "-n", "-f", str(folder / "rsyslog.conf"), "-i", str(folder / "rsyslog.pid")]
        with open(folder / "rsyslog.errors", "wb") as errors:
            self.daemon = subprocess.Popen(command, stdout=errors, stderr=errors)
        until = time.monotonic() + 20
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port))
                return
            except OSError:
                if self.daemon.poll() is not None or time.monotonic() > until:
                    raise SystemExit((folder / "rsyslog.errors").read_text()) from None
                time.sleep(0.05)

    def write(self, piece):
        self.socket.sendall(piece)

    def reopen(self):
        self.daemon.send_signal(signal.SIGHUP)

    def close(self):
        self.socket.close()

    def end(self):
        self.daemon.terminate()
        self.daemon.wait()


class Writer(threading.Thread):
    """Whole passes over the text, at a rate."""

    def __init__(self, log, lines, rate, to):
        super().__init__()
        self.log, self.rate, self.total, self.passes, self.to = log, rate, len(lines), 0, to
        step = max(1, rate // 200)
        lines = [to.mark + line for line in lines]
        self.slices = [(len(lines[at : at + step]), b"".join(lines[at : at + step])) for at in range(0, len(lines), step)]
        self.marks = [(time.monotonic(), 0)]  # when how many lines were written

    def run(self):
        began = rotated = time.monotonic()
        written, number, old = 0, 0, None
        while time.monotonic() - began < SECONDS:
            for count, piece in self.slices:
                wait = began + written / self.rate - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                now = time.monotonic()
                if old:
                    self.to.reopen()
                    old = None
                elif now - rotated > ROTATE:
                    # the next piece still goes to the old file
                    rotated, number, old = now, number + 1, True
                    os.rename(self.log, f"{self.log}.{number}")
                    open(self.log, "ab").close()
                    Path(f"{self.log}.{number - KEEP}").unlink(missing_ok=True)
                self.to.write(piece)
                written += count
                self.marks.append((time.monotonic(), written))
            self.passes += 1
        self.to.close()


def measure(program, lines, denies, rate):
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        folder = Path(name)
        log, answers = folder / "syslog", folder / "status.sock"
        log.touch()
        (folder / "hepguard.toml").write_text(
            f'[logs]\nfiles = ["{log}"]\nfrom = "beginning"\njournal = "off"\n[state]\ndirectory = "{folder}/state"\n'
            f'socket = "{answers}"\n[metrics]\nsocket = "{folder}/metrics.sock"\n'
        )
        with open(folder / "errors", "wb") as errors:
            daemon = subprocess.Popen([program, "--config", str(folder / "hepguard.toml"), "watch"], stdout=errors, stderr=errors)
        to = Rsyslog(log) if RSYSLOG else File(log)
        try:
            return follow(daemon.pid, Writer(log, lines, rate, to), answers, denies)
        except Exception:
            sys.stderr.write((folder / "errors").read_text()[-2000:])
            raise
        finally:
            daemon.terminate()
            daemon.wait()
            if RSYSLOG:
                to.end()


def follow(pid, writer, answers, denies):
    until = time.monotonic() + 30
    while True:
        try:
            if status(answers)["firewall"]["judged"] or time.monotonic() > until:
                break
        except OSError:
            if time.monotonic() > until:
                raise
        time.sleep(0.1)
    time.sleep(3)  # what it does once after the start
    reader = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    before, began = [used(one)[0] for one in (pid, reader)], time.monotonic()
    writer.start()
    lag, mark = 0.0, 0
    while True:
        alive = writer.is_alive()
        asked = time.monotonic()
        totals = status(answers)["totals"]
        # the first line that is written and not counted has waited since then
        while mark < len(writer.marks) and writer.marks[mark][1] <= totals["lines"]:
            mark += 1
        if mark < len(writer.marks) and writer.marks[mark][0] < asked:
            lag = max(lag, asked - writer.marks[mark][0])
        if not alive and totals["lines"] >= writer.total * writer.passes:
            break
        if lag > 60:
            raise SystemExit(f"lines are missing: {totals}")
        time.sleep(0.25)
    took = time.monotonic() - began
    time.sleep(0.5)
    totals, usage = status(answers)["totals"], [used(one) for one in (pid, reader)]
    wanted = (writer.total * writer.passes, denies * writer.passes)
    if (totals["lines"], totals["denies"]) != wanted:
        raise SystemExit(f"counted {totals['lines']} lines, {totals['denies']} denies; written {wanted}")
    cpu = [(after - start) / took for (after, _), start in zip(usage, before)]
    return wanted[0] / took, wanted, lag, cpu, [peak for _, peak in usage]


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "target/release/hepguard")
    with tempfile.TemporaryDirectory() as name:
        lines, denies = generate(Path(name))
    print("| lines/s asked | reached | lines | denies | longest wait, s | cpu s/s: daemon | reader | peak MB: daemon | reader |")
    print("|---|---|---|---|---|---|---|---|---|")
    for rate in RATES:
        reached, (written, counted), lag, cpu, peak = measure(program, lines, denies, rate)
        print(f"| {rate:,} | {reached:,.0f} | {written:,} | {counted:,} | {lag:.2f} | {cpu[0]:.3f} | {cpu[1]:.3f} | "
              f"{peak[0]:.0f} | {peak[1]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
