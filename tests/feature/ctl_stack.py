# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL, memcached and headgatectl alone: no web server, no gateway. One cluster for the session, a new database per test."""
import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid

import pytest

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("HEADGATE_BUILDDIR", TOP)
CTL = os.path.join(BUILD, "src", "main", "headgatectl")
PROBE = os.path.join(BUILD, "tests", "tools", "auth_probe")
PATIENCE = float(os.environ.get("HEADGATE_PATIENCE", "1"))


class Cluster:
    """tests/tools/with_postgres, held open by its standard input."""

    def __init__(self):
        self.held = subprocess.Popen(
            [os.path.join(TOP, "tests", "tools", "with_postgres"), "sh", "-c", "env | grep ^HEADGATE_TEST_; echo; cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.env = {}
        self.migrated = None
        for line in self.held.stdout:
            if line == "\n":
                return
            name, value = line.rstrip("\n").split("=", 1)
            self.env[name] = value
        if self.held.wait() == 77:
            pytest.skip("PostgreSQL or memcached is not installed")
        raise AssertionError("the cluster did not start")

    def pg_ctl(self, *arguments):
        # its children hold no pipe of ours
        subprocess.run([self.env["HEADGATE_TEST_PG_CTL"], *arguments], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def url(self, user, database):
        return self.env["HEADGATE_TEST_DATABASE_URL"].replace("user=owner", f"user={user}").replace("dbname=headgate", f"dbname={database}")

    def psql(self, database, sql):
        done = subprocess.run([self.env["HEADGATE_TEST_PSQL"], "-qAtX", "-v", "ON_ERROR_STOP=1", self.url("owner", database), "-c", sql],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def end(self):
        self.held.stdin.close()
        self.held.wait(30)


class Ctl:
    """One database with a configuration that names it."""

    def __init__(self, cluster, migrated=True):
        self.cluster = cluster
        self.database = "t" + uuid.uuid4().hex[:12]
        self.dir = tempfile.mkdtemp(prefix="hgctl")
        self.config = os.path.join(self.dir, "headgate.conf")
        self.write_config()
        if not migrated:
            cluster.psql("postgres", f"create database {self.database}")
            return
        self.ok("secret", "create")
        if cluster.migrated:
            cluster.psql("postgres", f"create database {self.database} template {cluster.migrated}")
        else:  # the first one becomes the template of the others
            cluster.migrated = "migrated"
            self.write_config(database=cluster.migrated)
            cluster.psql("postgres", f"create database {cluster.migrated}")
            self.ok("db", "migrate")
            cluster.psql("postgres", f"create database {self.database} template {cluster.migrated}")
            self.write_config()

    def write_config(self, more="", database=None):
        database = database or self.database
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(f"""
database: {{ url = "{self.cluster.url('headgate', database)}"; owner_url = "{self.cluster.url('owner', database)}"; }};
memcached: {{ servers = "{self.cluster.env['HEADGATE_TEST_MEMCACHED']}"; }};
paths: {{ run = "{self.dir}"; state = "{self.dir}"; master_key = "{self.dir}/master.key"; sql = "{TOP}/sql"; }};
{more}
""")

    def run(self, *arguments, input="", env=None):
        full = {k: v for k, v in os.environ.items() if not k.startswith("HEADGATE_")}
        full.update({"HEADGATE_CONFIG": self.config, **(env or {})})
        return subprocess.run([CTL, *arguments], input=input, env=full, capture_output=True, text=True, timeout=60 * PATIENCE)

    def ok(self, *arguments, **how):
        done = self.run(*arguments, **how)
        assert done.returncode == 0, f"headgatectl {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *arguments, **how):
        return json.loads(self.ok("--json", *arguments, **how))

    def list(self, *arguments, **how):
        return self.json(*arguments, **how)["data"]

    def fails(self, status, *arguments, **how):
        done = self.run(*arguments, **how)
        assert done.returncode == status, f"headgatectl {' '.join(arguments)}: {done.returncode}, not {status}\n{done.stdout}{done.stderr}"
        assert done.stderr or done.stdout
        return done.stderr

    def file(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def psql(self, sql):
        return self.cluster.psql(self.database, sql)

    def remove(self):
        self.cluster.psql("postgres", f"drop database {self.database} with (force)")
        shutil.rmtree(self.dir)


class Probe:
    """tests/tools/auth_probe: processes that authenticate one key again and again."""

    def __init__(self, ctl, key, processes=4, threads=2, run_dirs=()):
        self.process = subprocess.Popen([PROBE, ctl.config, ctl.file("probe.key", key + "\n"), str(processes), str(threads), *run_dirs],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        first = self.process.stdout.readline()
        assert first == "ready\n", first + self.process.stderr.read()

    def end(self):
        out, errors = self.process.communicate("", timeout=60 * PATIENCE)
        assert self.process.returncode == 0, errors
        return [json.loads(line) for line in out.splitlines()]


def now_us():
    return int(time.monotonic() * 1e6)


@pytest.fixture(scope="module")
def cluster():
    if not os.path.exists(CTL):
        pytest.fail(f"{CTL} is not built: make builds it, HEADGATE_BUILDDIR tells where")
    made = Cluster()
    yield made
    made.end()


@pytest.fixture
def ctl(cluster):
    made = Ctl(cluster)
    yield made
    made.remove()


@pytest.fixture
def bare(cluster):
    """A database without a schema, and no master key."""
    made = Ctl(cluster, migrated=False)
    yield made
    made.remove()
