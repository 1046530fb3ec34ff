# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL away, slow, silent, cut off. Tests are named after the rows of the fault catalogue (F-02 ...) and run on the real
stack: the fault proxy takes the place of the server's socket, or the real server gets a real signal."""
import contextlib
import os
import signal
import subprocess
import threading
import time

import pytest

from fault_proxy import Interposed
from stack import PATIENCE, WEBS, Stack, wait_for

POOL_WAIT_S = 2     # database.pool_wait, as delivered
STATEMENT_S = 2.5   # database.statement_timeout and what is allowed on top for the answer
BACKENDS = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'headgate' and pid <> pg_backend_pid()"


@pytest.fixture(scope="module")
def stack():
    s = Stack(WEBS[0])
    try:
        s.start()
        yield s
    finally:
        s.remove()


@pytest.fixture
def proxy(stack):
    """All connections of the gateway go through it; none does when the test is over."""
    p = Interposed(os.path.join(stack.run, ".s.PGSQL.5432"))
    try:
        reconnect(stack)
        assert wait_for(lambda: served(stack) and p.stats()["open"] > 0), "nothing goes through the proxy"
        yield p
        p.tell("clear")
    finally:
        p.close()
        assert wait_for(lambda: served(stack), 20), "the gateway did not recover"


def reconnect(stack):
    stack.execute(BACKENDS)


def served(stack):
    return stack.client.chat().status == 200


def app_pids(stack):
    """The gateway's processes: the web server started them."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit() and os.readlink(f"/proc/{entry}/exe").endswith("headgate.fcgi"):
                with open(f"/proc/{entry}/environ", "rb") as f:
                    if stack.state.encode() in f.read():
                        found.append(int(entry))
    return sorted(found)


class Load:
    """Callers side by side until stop(): what each call got and how long it took."""

    def __init__(self, stack, callers=4, model="sim-chat"):
        self.answers, self.ending = [], threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(stack, model)) for _ in range(callers)]
        for thread in self.threads:
            thread.start()

    def run(self, stack, model):
        while not self.ending.is_set():
            began = time.monotonic()
            answer = stack.client.chat(model)
            self.answers.append((answer, time.monotonic() - began))
            self.ending.wait(0.02)

    def stop(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(60)
        return [answer for answer, _ in self.answers]


def sums(stack, table, requests):
    return stack.sql(f"select ({requests})::bigint as requests, coalesce(sum(cost_nusd), 0)::bigint as cost from headgate.{table}")


def hold_to_account(stack, answers):
    """Every answer is 200 or a 503 that says when to come back; each 200 stands in the ledger once, with one attempt."""
    for answer in answers:
        assert answer.status in (200, 503), answer
        assert answer.status == 200 or answer.header("retry-after"), answer.headers
    ids = sorted(a.request_id.removeprefix("req_") for a in answers if a.status == 200)
    listed = ",".join(f"'{i}'" for i in ids)

    def counted(table, column):
        return sorted(r["id"] for r in stack.sql(f"select {column} as id from headgate.{table} where {column} in ({listed})"))
    assert ids, "no call was served"
    assert wait_for(lambda: len(counted("requests", "id")) >= len(ids), 20), "calls that were served are not in the ledger"
    time.sleep(0.3)  # what would be written twice
    assert counted("requests", "id") == ids
    assert counted("attempts", "request_id") == ids
    assert wait_for(lambda: sums(stack, "usage_rollups", "sum(requests)") == sums(stack, "requests", "count(*)")), "the sums do not agree"


def test_f_04_backends_killed_ten_times_a_second_lose_and_double_nothing(stack):
    load = Load(stack)
    for _ in range(20):
        reconnect(stack)
        time.sleep(0.1)
    hold_to_account(stack, load.stop())


def test_f_05_a_slow_server_sheds_within_the_deadlines(stack, proxy):
    proxy.tell("set down latency 500")
    load = Load(stack, callers=8)
    time.sleep(4)
    answers = load.stop()
    proxy.tell("clear")
    longest = max(seconds for _, seconds in load.answers)
    assert longest < 3 * (POOL_WAIT_S + STATEMENT_S) * PATIENCE, f"a call took {longest} s"
    hold_to_account(stack, answers)


@pytest.mark.parametrize("fault", ["black hole", "half open"], ids=["f_06", "f_07"])
def test_f_06_f_07_a_silent_server_is_given_up_and_found_again(stack, proxy, fault):
    pids = app_pids(stack)
    assert pids
    if fault == "black hole":
        proxy.tell("set up hole 1", "set down hole 1")
    else:
        proxy.tell("drop")
    load = Load(stack)
    time.sleep(5)
    proxy.tell("clear")
    assert wait_for(lambda: served(stack), 10), "the gateway did not find the server again"
    answers = load.stop()
    longest = max(seconds for _, seconds in load.answers)
    assert longest < 3 * (POOL_WAIT_S + STATEMENT_S) * PATIENCE, f"a call took {longest} s"
    hold_to_account(stack, answers)
    assert app_pids(stack) == pids


@pytest.mark.parametrize("fault", ["commit-delay 4000", "commit-cut 1"], ids=["late", "cut"])
def test_f_19_a_commit_whose_answer_is_late_or_lost_has_one_effect(stack, proxy, fault):
    before = proxy.stats()["commits"]
    proxy.tell(fault)
    load = Load(stack, callers=2)
    time.sleep(1.5)
    load.ending.set()
    assert wait_for(lambda: proxy.stats()["commits"] > before, 10), "no COMMIT met the fault"
    time.sleep(3)
    proxy.tell("clear")
    answers = load.stop()
    assert wait_for(lambda: served(stack), 20)
    answers.append(stack.client.chat())
    hold_to_account(stack, answers)


class Postmaster:
    """The stack's PostgreSQL, ended by a signal and started again the way it was, still under the stack's name for it."""

    def __init__(self, stack):
        self.stack, self.pid = stack, stack.pid("postgresql")
        with open(f"/proc/{self.pid}/cmdline", "rb") as f:
            self.command = f.read().rstrip(b"\0").split(b"\0")
        self.owner = os.stat(f"/proc/{self.pid}")
        self.process = None

    def end(self, how):
        os.kill(self.pid, how)
        if self.process:
            self.process.wait(20)
        assert wait_for(lambda: not self.accepts(), 10), "PostgreSQL did not end"

    def launch(self):
        with open(os.path.join(self.stack.state, "log", "postgresql-again.log"), "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.stack.state,
                                            start_new_session=True, user=self.owner.st_uid, group=self.owner.st_gid, extra_groups=[])
        self.pid = self.process.pid
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as f:
            started = f.read().rpartition(")")[2].split()[19]
        with open(os.path.join(self.stack.run, "postgresql.proc"), "w", encoding="ascii") as f:
            f.write(f"{self.pid} {started}\n")

    def start(self):
        """After kill -9 the old server's children may hold its memory for a moment: it does not start beside them."""
        def up():
            if self.process is None or self.process.poll() is not None:
                self.launch()
            return self.accepts()
        self.process = None
        assert wait_for(up, 20, every=0.1), "PostgreSQL did not start again"

    def accepts(self):
        try:
            return self.stack.sql("select 1 as one") == [{"one": 1}]
        except AssertionError:
            return False


@pytest.fixture(scope="module")
def postmaster(stack):
    return Postmaster(stack)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL], ids=["f_02_fast", "f_03_immediate", "f_03_kill"])
def test_f_02_f_03_p_80_a_restart_is_a_hiccup(stack, postmaster, how):
    pids = app_pids(stack)
    assert pids
    load = Load(stack)
    for _ in range(16 if os.environ.get("HEADGATE_LONG") else 1):
        time.sleep(0.5)
        postmaster.end(how)
        time.sleep(0.5)
        postmaster.start()
        assert wait_for(lambda: served(stack), 5), "no call is served though PostgreSQL accepts"
    hold_to_account(stack, load.stop())
    longest = max(seconds for _, seconds in load.answers)
    assert longest < 3 * (POOL_WAIT_S + STATEMENT_S) * PATIENCE, f"a call took {longest} s"
    assert app_pids(stack) == pids, "a process of the gateway was started anew"
