# SPDX-License-Identifier: Apache-2.0
"""P-75: the application is restarted under load while its listening socket is held by a parent, as conf/systemd/headgate.socket does:
no call fails. Five restarts, twenty with HEADGATE_LONG. mod_fcgid owns its processes' sockets itself, so the row does not speak of it.
nginx is told to keep no connections: one that it keeps may be chosen for a new call in the moment in which the ending application closes
it, FastCGI has no word for "close", and nginx does not repeat a POST (docs/guides/install-nginx.md)."""
import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from stack import PATIENCE, WEBS, wait_for

RESTARTS = 20 if os.environ.get("HEADGATE_LONG") else 5
HOLDABLE = [web for web in WEBS if web != "apache-fcgid"]


class HeldApplication:
    """The stack's application on a socket that this process keeps open, in place of the one the quickstart started."""

    def __init__(self, stack):
        self.stack, self.process = stack, None
        self.owner = os.stat(stack.run)
        self.path = os.path.join(stack.run, "fcgi.sock")
        self.end_first()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        os.chown(self.path, self.owner.st_uid, self.owner.st_gid)
        os.chmod(self.path, 0o600)
        self.socket.listen(1024)
        self.log = open(os.path.join(stack.state, "log", "held.log"), "ab")
        self.start()

    def end_first(self):
        if self.stack.web == "nginx":
            self.keep_no_connections()
        if self.stack.web != "lighttpd":
            pid = self.stack.pid("app")
            os.kill(pid, signal.SIGTERM)
            assert wait_for(lambda: ended(pid), 10)
            return
        # as conf/lighttpd.conf.in says for production: without bin-path, lighttpd starts nothing
        path = os.path.join(self.stack.state, "conf", "lighttpd-headgate.conf")
        with open(path, encoding="utf-8") as f:
            text = f.read()
        short = re.sub(r'^\t"(bin-path|bin-environment|bin-copy-environment|max-procs)".*\n', "", text, flags=re.M)
        assert short.count("\n") == text.count("\n") - 4
        with open(path, "w", encoding="utf-8") as f:
            f.write(short)
        started = children(self.stack.pid("web"))
        assert started
        os.kill(self.stack.pid("web"), signal.SIGUSR1)
        assert wait_for(lambda: all(ended(pid) for pid in started), 20)

    def keep_no_connections(self):
        path = os.path.join(self.stack.state, "conf", "nginx-headgate.conf")
        with open(path, encoding="utf-8") as f:
            text = f.read()
        short = re.sub(r"^\tkeepalive.*;\n", "", text.replace("fastcgi_keep_conn on;", "fastcgi_keep_conn off;"), count=3, flags=re.M)
        assert short != text and short.count("fastcgi_keep_conn off;") == 1
        with open(path, "w", encoding="utf-8") as f:
            f.write(short)
        before = children(self.stack.pid("web"))
        os.kill(self.stack.pid("web"), signal.SIGHUP)
        assert wait_for(lambda: all(ended(pid) for pid in before), 20)

    def start(self):
        as_user = {} if os.geteuid() else {"user": self.owner.st_uid, "group": self.owner.st_gid, "extra_groups": []}
        self.process = subprocess.Popen([os.path.join(self.stack.state, "bin", "headgate.fcgi")], stdin=self.socket, stdout=self.log,
                                        stderr=self.log, env={**os.environ, "HEADGATE_CONFIG": self.stack.env["HEADGATE_CONFIG"]}, **as_user)

    def end(self):
        self.process.terminate()
        self.process.wait(40 * PATIENCE)
        assert self.process.returncode == 0

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.socket.close()
        self.log.close()


def ended(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(p) for p in f.read().split()]


@pytest.fixture
def held():
    made = []

    def hold(stack):
        made.append(HeldApplication(stack))
        return made[-1]

    yield hold
    for one in made:
        one.close()


@pytest.mark.parametrize("web", HOLDABLE)
def test_p75_restarts_with_a_held_socket_lose_no_call(own_stack, held, web):
    stack = own_stack(web)
    application = held(stack)
    assert wait_for(lambda: stack.client.chat().status == 200, 10)
    stop, failed, good = threading.Event(), [], [0] * 4

    def call(i):
        while not stop.is_set():
            try:
                answer = stack.client.chat(f"sim-chat?first_token_ms={5 * i}")
            except OSError as error:
                failed.append(repr(error))
                continue
            if answer.status == 200:
                good[i] += 1
            else:
                failed.append(repr(answer))

    callers = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(RESTARTS):
            before = sum(good)
            assert wait_for(lambda: sum(good) >= before + 20, 10), (sum(good), failed[:3])
            application.end()
            application.start()
        time.sleep(0.5)
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert not failed, (len(failed), sum(good), failed[:3])
