#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The gate against the textbook libfcgi program, behind the same lighttpd, in turns, in one run. Needs lighttpd and wrk.
Usage: HEADGATE_BUILDDIR=... bench_gate.py [--seconds 4] [--rounds 3]"""
import argparse
import os
import pathlib
import re
import socket
import statistics
import subprocess
import tempfile
import time

BUILD = os.environ.get("HEADGATE_BUILDDIR") or str(pathlib.Path(__file__).resolve().parents[2])

CONFIG = """
server.modules = ("mod_fastcgi")
server.document-root = "{dir}"
server.bind = "127.0.0.1"
server.port = {port}
server.errorlog = "{dir}/error.log"
server.max-connections = 2048
server.max-fds = 4096
server.stream-response-body = 2
fastcgi.server = (
  "/big" => (( "socket" => "{dir}/gate.sock", "bin-path" => "{build}/tests/tools/gate_echo", "max-procs" => 1,
               "check-local" => "disable" )),
  "/bare" => (( "socket" => "{dir}/bare.sock", "bin-path" => "{build}/tests/tools/bare_fcgi {threads}", "max-procs" => 1,
                "check-local" => "disable" )))
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def measure(url, program, connections, seconds):
    before = cpu_seconds(program)
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", url], capture_output=True, text=True, check=True).stdout
    bad = re.search(r"Non-2xx.*: (\d+)", out)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", out)
    ms = float(p99[1]) * {"us": 0.001, "ms": 1, "s": 1000}[p99[2]]
    done = int(re.search(r"(\d+) requests in", out)[1])
    return (float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), ms, (cpu_seconds(program) - before) * 1e6 / done,
            int(bad[1]) if bad else 0)


def cpu_seconds(name):
    """User and system time of the one program of that name that runs under our lighttpd."""
    total = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
            if f"({name})" in text and BUILD in (stat.parent / "cmdline").read_text():
                fields = text.rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return total / os.sysconf("SC_CLK_TCK")


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--seconds", type=int, default=4)
    args.add_argument("--rounds", type=int, default=3)
    args = args.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-gate-") as d:
        port = free_port()
        conf = os.path.join(d, "lighttpd.conf")
        pathlib.Path(conf).write_text(CONFIG.format(dir=d, port=port, build=BUILD, threads=32))
        server = subprocess.Popen(["lighttpd", "-D", "-f", conf], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(1)
            print("                    requests/s               99th percentile, ms    CPU of the program, us/request")
            print(f"{'bytes':>7} {'conns':>5} {'bare':>9} {'gate':>9} {'ratio':>6} {'bare':>9} {'gate':>9} {'bare':>12} {'gate':>9}")
            for size, connections in ((200, 8), (200, 32), (200, 128), (20000, 32)):
                runs = {"bare": [], "big": []}
                for _ in range(args.rounds):
                    for name, program in (("bare", "bare_fcgi"), ("big", "gate_echo")):
                        url = f"http://127.0.0.1:{port}/{name}?bytes={size}"
                        runs[name].append(measure(url, program, connections, args.seconds))
                assert not any(r[3] for rows in runs.values() for r in rows), "answers that were not 2xx"
                bare, gate = ([statistics.median(column) for column in zip(*runs[n])] for n in ("bare", "big"))
                print(f"{size:>7} {connections:>5} {bare[0]:>9.0f} {gate[0]:>9.0f} {gate[0] / bare[0]:>6.2f} {bare[1]:>9.2f} {gate[1]:>9.2f} "
                      f"{bare[2]:>12.1f} {gate[2]:>9.1f}", flush=True)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
