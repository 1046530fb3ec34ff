# SPDX-License-Identifier: Apache-2.0
"""F-70, F-71: a process ended between any two of its visible effects. Needs a build with --enable-kill-points (stage build-kp)."""
import glob
import os
import re
import signal
import subprocess
import time

import pytest

import books
from stack import Stack, wait_for

LONG = bool(os.environ.get("HEADGATE_LONG"))
HITS = (1, 2, 3) if LONG else (1,)
PROGRAMS = ("headgate.fcgi", "headgate-worker")


def kill_points():
    """The names in the programs, as the linker left them."""
    names = set()
    for program in PROGRAMS:
        path = os.path.join(os.environ.get("HEADGATE_BUILDDIR", ""), "src", "main", program)
        if os.path.exists(path):
            told = subprocess.run(["readelf", "-p", "kill_points", path], capture_output=True, text=True, check=False).stdout
            names |= set(re.findall(r"\]\s+([a-z]+\.[a-z_0-9]+)$", told, re.M))
    return sorted(names)


NAMES = kill_points()
pytestmark = pytest.mark.skipif(not NAMES and not os.environ.get("HEADGATE_KILL_POINTS"), reason="HEADGATE_BUILDDIR has no kill points: admin/check --only feature-kp")

# A call whose process ends at one of these was under way and not told its end.
ENDS_A_CALL = [n for n in NAMES if n.startswith(("call.", "http."))]


class Rig:
    def __init__(self, stack):
        self.stack = stack
        self.order = os.path.join(stack.state, "conf", "headgate.conf.kill")
        self.calls = []
        stack.environment["HEADGATE_KILL_POINT"] = "@" + self.order  # the worker's; the application finds it beside its configuration
        stack.start()
        os.chmod(os.path.dirname(self.order), 0o777)  # the program removes the order it carries out, whoever it runs as

    def arm(self, name, hit, action="kill9"):
        with open(self.order + ".new", "w", encoding="ascii") as f:
            f.write(f"{name}:{hit}:{action}\n")
        os.rename(self.order + ".new", self.order)

    def armed(self):
        return os.path.exists(self.order)

    def disarm(self):
        for path in glob.glob(self.order + "*"):
            os.unlink(path)

    def round(self):
        """A whole call, a stream, and a slow stream, side by side."""
        made = [books.Call(self.stack, "sim-chat?tokens=5", False), books.Call(self.stack, "sim-chat?tokens=5", True),
                books.Call(self.stack, "sim-chat?tokens=10&tokens_per_s=100", True)]
        self.calls += made
        return [c.wait() for c in made]

    def stop_postgresql(self):
        path = glob.glob(os.path.join(self.stack.state, "data", "postgresql", "postmaster.pid"))[0]
        with open(path, encoding="ascii") as f:
            os.kill(int(f.readline()), signal.SIGINT)
        assert wait_for(lambda: not os.path.exists(path), 20)


@pytest.fixture(scope="module")
def rig():
    stack = Stack("lighttpd")
    try:
        built = Rig(stack)
        yield built
        built.disarm()
    finally:
        stack.remove()


def provoke_by_calls(rig):
    last = []
    for _ in range(6):
        last = rig.round()
        if not rig.armed():
            break
        books.serves_again(rig.stack)
    return last


def provoke_by_outage(rig):
    """What is answered while PostgreSQL is away goes to the spool."""
    slow = [books.Call(rig.stack, "sim-chat?tokens=40&tokens_per_s=20", stream) for stream in (True, False)]
    rig.calls += slow
    assert wait_for(lambda: books.app_pids(rig.stack))
    time.sleep(0.4)  # they are under way
    rig.stop_postgresql()
    for call in slow:
        call.wait()
    rig.stack.start()
    provoke_by_time(rig)  # the spool is written during the outage, and adopted after it
    return slow


def provoke_by_death(rig):
    """A process that dies under a call leaves a file; whoever adopts it meets the point."""
    slow = books.Call(rig.stack, "sim-chat?tokens=100&tokens_per_s=20", True)
    rig.calls.append(slow)
    assert wait_for(lambda: slow.events, 10)
    books.kill(books.app_pids(rig.stack))
    slow.wait()
    provoke_by_time(rig)
    return [slow]


def provoke_by_time(rig):
    books.serves_again(rig.stack)
    wait_for(lambda: not rig.armed(), 15, every=0.2)
    return []


def provocation(name):
    if name.startswith("task."):
        return provoke_by_time
    if name in ("ledger.adopted", "ledger.adopting_flights"):
        return provoke_by_death
    return provoke_by_outage if "spool" in name else provoke_by_calls


def rounds():
    for name in NAMES:
        for hit in HITS if provocation(name) is provoke_by_calls else (1,):
            yield pytest.param(name, hit, id=f"{name}-{hit}")


def test_there_are_kill_points():
    assert {"gate.before_accept", "api.after_auth", "call.before_send", "call.mid_stream", "ledger.before_commit", "task.before"} <= set(NAMES), NAMES


@pytest.mark.parametrize("name, hit", list(rounds()))
def test_f70_killed_there_nothing_is_lost_and_nothing_counted_twice(rig, name, hit):
    rig.arm(name, hit)
    last = provocation(name)(rig)
    assert not rig.armed(), f"{name} was not met {hit} times"
    if name in ENDS_A_CALL:
        assert not all(c.done for c in last), f"killed at {name}, and every caller was told a good end: {last}"
    if name.startswith("task.") or not os.path.exists(f"/proc/{rig.stack.pid('worker')}/exe"):
        rig.stack.start()
    books.serves_again(rig.stack)
    if LONG:  # else once, at the end: adopting takes five seconds
        books.balance(rig.stack, rig.calls)


def test_f70_both_books_agree_and_only_the_living_have_a_place(rig):
    rig.round()
    books.balance(rig.stack, rig.calls)
    books.no_ghosts(rig.stack)
