# SPDX-License-Identifier: Apache-2.0
"""The one command of the README: idempotent, quick the second time, tells what is running, leaves nothing behind."""
import os
import re
import socket
import subprocess
import time

from client import Client
from stack import PATIENCE, Stack, quickstart


def processes_of(state):
    """Processes that run from this state directory, by their command line or program."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                command = f.read().replace(b"\0", b" ").decode(errors="replace")
            program = os.readlink(f"/proc/{pid}/exe")
        except OSError:
            continue
        if state in command or state in program:
            found.append(command)
    return [c for c in found if "pytest" not in c]


def test_a_second_run_starts_everything_again_in_under_three_seconds(own_stack):
    stack = own_stack()
    key = stack.env["HEADGATE_API_KEY"]
    stack.stop()
    began = time.monotonic()
    stack.start()
    assert time.monotonic() - began < 3 * PATIENCE
    assert stack.env["HEADGATE_API_KEY"] == key and stack.client.chat().status == 200


def test_a_run_while_everything_runs_changes_nothing(own_stack):
    stack = own_stack()
    before = {part: stack.pid(part) for part in ("web", "worker", "simulator", "memcached", "postgresql")}
    stack.start()
    assert {part: stack.pid(part) for part in before} == before


def test_status_tells_and_stop_leaves_nothing(own_stack):
    stack = own_stack(started=False)
    assert quickstart("--state", stack.state + "/never", "--status").returncode == 4
    stack.start()
    told = quickstart("--state", stack.state, "--status")
    assert told.returncode == 0 and "not running" not in told.stdout and f":{stack.port}" in told.stdout
    assert stack.stop().returncode == 0
    assert processes_of(stack.state) == []
    told = quickstart("--state", stack.state, "--status")
    assert told.returncode == 3 and "not running" in told.stdout
    assert stack.stop().returncode == 0, "stopping what is stopped is no failure"


def test_a_part_that_died_is_started_again(own_stack):
    stack = own_stack()
    os.kill(stack.pid("memcached"), 9)
    stack.start()
    assert quickstart("--state", stack.state, "--status").returncode == 0


def test_keys_in_the_environment_are_adopted(own_stack):
    user, admin = "my-own-user-key-0123456789", "AdminKey/with+odd=characters.~!$'\"{}"
    stack = own_stack(env={"USER_API_KEY": user, "ADMIN_API_KEY": admin})
    told = subprocess.run(["bash", "-c", f". {stack.state}/quickstart.env; printf '%s\\n%s' \"$HEADGATE_API_KEY\" \"$HEADGATE_ADMIN_API_KEY\""],
                          capture_output=True, text=True, check=True).stdout
    assert told == f"{user}\n{admin}"
    for key in (user, admin):
        assert Client("127.0.0.1", stack.port, key).chat().status == 200


def test_bad_keys_and_options_are_refused_before_anything_happens(tmp_path):
    state = str(tmp_path / "state")
    for env in ({"USER_API_KEY": "short"}, {"ADMIN_API_KEY": "with a space in it"}, {"USER_API_KEY": "with,comma,in,it,here"}):
        done = quickstart("--state", state, env=env)
        assert done.returncode == 2 and next(iter(env)) in done.stderr
    for arguments in (["--web", "iis"], ["--port", "0"], ["--port", "70000"], ["--port", "x"], ["--listen", "nowhere"], ["--what"]):
        assert quickstart("--state", state, *arguments).returncode == 2
    assert not os.path.exists(state)


def test_a_port_in_use_is_told_plainly():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        stack = Stack()
        stack.port = other.getsockname()[1]
        try:
            done = quickstart(*stack.arguments())
            assert done.returncode == 1 and f"port {stack.port} is in use" in done.stderr and "--port" in done.stderr
        finally:
            stack.remove()


def test_the_environment_file_is_private_and_complete(headgate):
    path = os.path.join(headgate.state, "quickstart.env")
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert set(headgate.env) == {"HEADGATE_URL", "HEADGATE_SIM_URL", "HEADGATE_API_KEY", "HEADGATE_ADMIN_API_KEY", "HEADGATE_ADMIN_EMAIL",
                                 "HEADGATE_ADMIN_PASSWORD", "HEADGATE_DATABASE_URL", "HEADGATE_CONFIG"}
    assert not headgate.env["HEADGATE_URL"].endswith("/v1") and not headgate.env["HEADGATE_SIM_URL"].endswith("/v1")
    assert headgate.sql("SELECT 1 AS one") == [{"one": 1}]


def test_headgatectl_works_from_anywhere_after_sourcing_it(headgate):
    done = subprocess.run(["bash", "-c", f". {headgate.state}/quickstart.env; cd /; {headgate.state}/bin/headgatectl status"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_printed_works_when_pasted(own_stack):
    stack = own_stack(started=False)
    printed = stack.start().stdout
    curl = re.search(r"^ *(curl .*)$", printed, re.M)[1]
    answer = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True).stdout
    assert '"chat.completion"' in answer
    assert stack.env["HEADGATE_API_KEY"] in printed


def test_a_real_provider_is_registered_beside_the_simulator(own_stack, headgate):
    """The simulator of another stack plays the provider: its own key, plain http, a private address."""
    stack = own_stack(env={"OPENAI_API_KEY": "sk-not-a-real-key", "OPENAI_BASE_URL": headgate.env["HEADGATE_SIM_URL"] + "/v1"})
    seen = len(headgate.sim_calls())
    assert stack.client.chat().status == 200
    assert len(headgate.sim_calls()) == seen, "sim-* stays with the simulator"
    assert stack.client.chat(model="gpt-something").status == 404, "the other simulator knows no such model, and says so"
    for path, _, files in os.walk(stack.state):
        for name in filter(lambda n: os.path.isfile(os.path.join(path, n)), files):
            with open(os.path.join(path, name), "rb") as f:
                assert b"sk-not-a-real-key" not in f.read(), f"the provider's key lies open in {path}/{name}"
