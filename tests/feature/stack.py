# SPDX-License-Identifier: Apache-2.0
"""A whole Headgate on this machine, started by admin/quickstart: real PostgreSQL, memcached, web server and simulator.

Programs come from HEADGATE_BUILDDIR where it is set (nothing is built then), else the quickstart builds them. Every stack has its
own state directory and ports and is removed at the end, unless HEADGATE_KEEP is set.
"""
import glob
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time

from client import Client

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
QUICKSTART = os.path.join(TOP, "admin", "quickstart")
WEBS = os.environ.get("HEADGATE_WEBS", "lighttpd apache apache-fcgid nginx").split()
# Under a sanitizer everything is slower: waits are multiplied, never shortened.
PATIENCE = float(os.environ.get("HEADGATE_PATIENCE", "1"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(question, seconds=10, every=0.05):
    """Ask until the answer is true; return it, or the last answer when the time is over."""
    end = time.monotonic() + seconds * PATIENCE
    while True:
        answer = question()
        if answer or time.monotonic() > end:
            return answer
        time.sleep(every)


def psql_program():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/psql"), key=lambda p: int(p.split("/")[4].split(".")[0]))
    return found[-1] if found else "psql"


def quickstart(*arguments, env=None, timeout=300):
    full = dict(os.environ)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ADMIN_API_KEY", "USER_API_KEY", "HEADGATE_CONFIG"):
        full.pop(name, None)
    full.update(env or {})
    return subprocess.run([QUICKSTART, *arguments], env=full, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)


class Stack:
    def __init__(self, web="lighttpd", env=None):
        self.web = web
        self.port = free_port()
        # not pytest's tmp_path: the user the parts run as must be able to enter it
        self.state = tempfile.mkdtemp(prefix="headgate-test-")
        os.chmod(self.state, 0o755)
        self.environment = env or {}
        self.env = {}
        self.client = None

    def arguments(self):
        return ["--state", self.state, "--port", str(self.port), "--web", self.web]

    def start(self, env=None):
        done = quickstart(*self.arguments(), env={**self.environment, **(env or {})})
        assert done.returncode == 0, f"quickstart failed:\n{done.stdout}\n{done.stderr}"
        self.read_env()
        return done

    def read_env(self):
        with open(os.path.join(self.state, "quickstart.env"), encoding="utf-8") as f:
            self.env = dict(re.findall(r"^export (\w+)='(.*)'$", f.read(), re.M))
        self.client = Client("127.0.0.1", self.port, self.env["HEADGATE_API_KEY"])

    def stop(self):
        return quickstart("--state", self.state, "--stop")

    def remove(self):
        if os.environ.get("HEADGATE_KEEP"):
            self.stop()
            return
        done = quickstart("--state", self.state, "--reset", "--yes")
        shutil.rmtree(self.state, ignore_errors=True)
        assert done.returncode == 0, done.stderr

    # --- looking inside -------------------------------------------------------------------------------------------------

    def sql(self, statement, **values):
        """Rows as dicts of text. Values go in as psql variables, quoted by psql: write :'name'."""
        command = [psql_program(), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.env["HEADGATE_DATABASE_URL"]]
        for name, value in values.items():
            command += ["-v", f"{name}={value}"]
        wrapped = f"SELECT coalesce(json_agg(r), '[]') FROM ({statement}) r;"
        done = subprocess.run(command, input=wrapped, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def execute(self, statement):
        done = subprocess.run([psql_program(), "-Xq", "-v", "ON_ERROR_STOP=1", "-d", self.env["HEADGATE_DATABASE_URL"]],
                              input=statement, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr

    def ctl(self, *arguments, stdin="", check=True):
        done = subprocess.run([os.path.join(self.state, "bin", "headgatectl"), *arguments], input=stdin, capture_output=True, text=True,
                              timeout=60, env={**os.environ, "HEADGATE_CONFIG": self.env["HEADGATE_CONFIG"]})
        if check:
            assert done.returncode == 0, f"headgatectl {arguments}: {done.stdout}{done.stderr}"
        return done

    def log(self, name):
        path = os.path.join(self.state, "log", name)
        if not os.path.exists(path):
            return ""
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def sim_calls(self, model=None):
        """What the simulator saw: one dict per call that ended there."""
        calls = [json.loads(line) for line in self.log("sim.jsonl").splitlines() if line.endswith("}")]
        return [c for c in calls if model is None or c["model"] == model]

    def request(self, request_id, client=None):
        """The ledger's account of one request, as GET /v1/requests/{id} tells it; it may be a moment behind a stream's end."""
        client = client or self.client
        answer = None

        def asked():
            nonlocal answer
            answer = client.get(f"/v1/requests/{request_id}")
            return answer.status == 200
        assert wait_for(asked, 10), answer
        return answer.json()

    def pid(self, part):
        with open(os.path.join(self.run, part + ".proc"), encoding="ascii") as f:
            return int(f.read().split()[0])

    @property
    def run(self):
        socket_dir = re.search(r"host=([^&]*)", self.env["HEADGATE_DATABASE_URL"])
        return socket_dir[1] if socket_dir else os.path.join(self.state, "run")


class Stacks:
    """Stacks of a test session, each started when first asked for."""

    def __init__(self):
        self.running = {}

    def get(self, web):
        if web not in self.running:
            stack = Stack(web)
            try:
                stack.start()
            except BaseException:
                stack.remove()
                raise
            self.running[web] = stack
        return self.running[web]

    def remove(self):
        for stack in self.running.values():
            stack.remove()
