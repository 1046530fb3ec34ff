# SPDX-License-Identifier: Apache-2.0
"""Everything dies at random moments under load, and afterwards the simulator's books and the ledger agree (F-70, M8)."""
import os
import random
import signal
import threading
import time

import pytest

import books
from stack import quickstart, wait_for

LONG = bool(os.environ.get("HEADGATE_LONG"))
KILLS, DATABASE, CACHE, WORKER = (200, 20, 20, 50) if LONG else (12, 2, 1, 2)
CALLERS = 6
MODELS = [("sim-chat?tokens=5", False), ("sim-chat?tokens=30&tokens_per_s=60", True), ("sim-chat?tokens=10&tokens_per_s=40", False), ("sim-chat?tokens=8", True)]


class Load:
    """Callers that call one after the other until told to stop, and keep what they saw."""

    def __init__(self, stack, seed):
        self.stack, self.calls, self.ending = stack, [], threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(random.Random(seed + i),), daemon=True) for i in range(CALLERS)]
        for thread in self.threads:
            thread.start()

    def run(self, rnd):
        while not self.ending.is_set():
            call = books.Call(self.stack, *rnd.choice(MODELS))
            self.calls.append(call)
            call.thread.join(60)
            if call.status != 200:
                time.sleep(0.05)

    def end(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(90)
            assert not thread.is_alive(), "a caller hangs"
        return self.calls


def postmaster_file(stack):
    return os.path.join(stack.state, "data", "postgresql", "postmaster.pid")


def postmaster(stack):
    with open(postmaster_file(stack), encoding="ascii") as f:
        return int(f.readline())


def kill_application(stack, rnd):
    pids = books.app_pids(stack)
    books.kill([rnd.choice(pids)] if pids else [])


def restart(stack, pid, how):
    books.kill([pid], how)
    assert wait_for(lambda: not os.path.exists(f"/proc/{pid}"), 30)

    def started():  # not while a backend of the dead postmaster still lives
        return quickstart(*stack.arguments()).returncode == 0
    assert wait_for(started, 30, every=0.3), "it does not start again"


def restart_database(stack, rnd):
    restart(stack, postmaster(stack), rnd.choice([signal.SIGINT, signal.SIGQUIT, signal.SIGKILL]))  # fast, immediate, kill -9


def restart_cache(stack, rnd):
    restart(stack, stack.pid("memcached"), signal.SIGKILL)


def restart_worker(stack, rnd):
    restart(stack, stack.pid("worker"), signal.SIGKILL)


@pytest.mark.parametrize("web", ["lighttpd", "apache-fcgid"] if LONG else ["lighttpd"])
def test_f70_killed_at_random_under_load_nothing_is_lost_and_nothing_counted_twice(own_stack, web):
    seed = int(os.environ.get("HEADGATE_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"HEADGATE_SEED={seed}")
    rnd = random.Random(seed)
    stack = own_stack(web)
    plan = [kill_application] * KILLS + [restart_database] * DATABASE + [restart_cache] * CACHE + [restart_worker] * WORKER
    rnd.shuffle(plan)
    load = Load(stack, seed)
    for blow in plan:
        time.sleep(rnd.uniform(0.05, 0.6))
        blow(stack, rnd)
    time.sleep(0.5)
    calls = load.end()
    stack.start()
    books.serves_again(stack)
    assert any(c.done for c in calls) and not all(c.done for c in calls), "the load met no blow, or nothing but blows"
    books.balance(stack, calls, 60)
    books.no_ghosts(stack)
    books.balance(stack, calls)  # adopting the rest has counted nothing twice
