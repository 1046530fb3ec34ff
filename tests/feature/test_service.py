# SPDX-License-Identifier: Apache-2.0
"""The service as its operator meets it: reload, drain, a database that goes away, keys that are revoked."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from stack import TOP, psql_program, wait_for


def app_pid(stack):
    status = json.loads(stack.ctl("status", "--json").stdout)
    return [p["pid"] for p in status["processes"] if p["program"] == "headgate.fcgi"][0]


def app_log(stack):
    return stack.log("web.log") + stack.log("app.log")


def edit_config(stack, old, new):
    path = stack.env["HEADGATE_CONFIG"]
    with open(path, encoding="utf-8") as f:
        text = f.read()
    assert old in text, text
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace(old, new))
    return text


@pytest.fixture
def own(own_stack):
    return own_stack("lighttpd")


def test_f84_a_bad_configuration_keeps_the_old_one_and_names_every_error(own):
    path, pid = own.env["HEADGATE_CONFIG"], app_pid(own)
    with open(path, "r+", encoding="utf-8") as f:
        text = f.read()
        f.write('\nfronk = { threads = 3; };\nlog = { levle = "debug"; };\n')
    os.kill(pid, signal.SIGHUP)
    assert wait_for(lambda: "config.reload_refused" in app_log(own))
    told = [json.loads(line)["problem"] for line in app_log(own).splitlines() if '"config.problem"' in line]
    assert [t for t in told if "fronk" in t and "front" in t] and [t for t in told if "log.levle, did you mean log.level" in t], told
    assert own.client.chat().status == 200
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.kill(pid, signal.SIGHUP)
    assert wait_for(lambda: "config.reloaded" in app_log(own))
    assert own.client.chat().status == 200


def test_a_reload_reaches_every_process_of_the_host(own):
    before = app_log(own).count("config.reloaded")
    own.ctl("reload")
    assert wait_for(lambda: app_log(own).count("config.reloaded") > before, 5)


def test_a_reload_changes_what_it_may(own):
    big = "x" * 1_500_000
    assert own.client.chat(content=big).status == 200
    edit_config(own, "front: {", 'front: {\nmodel_body = "1MiB";')
    own.ctl("reload")
    assert wait_for(lambda: own.client.chat(content=big).status == 413, 5)
    assert own.client.chat().status == 200


def test_f85_a_stream_under_way_survives_sigterm(own):
    stream = own.client.stream("sim-chat?tokens=60&tokens_per_s=30")
    events = stream.events()
    next(events)
    os.kill(app_pid(own), signal.SIGTERM)
    rest = list(events)
    assert rest[-1] == "[DONE]"
    assert wait_for(lambda: own.sql("select count(*) n from headgate.requests where stream")[0]["n"] == 1)


def test_a_call_that_outlasts_the_drain_is_accounted_all_the_same(own):
    edit_config(own, 'timeout = "10s"', 'timeout = "1s"')
    before = app_log(own).count("config.reloaded")
    own.ctl("reload")
    assert wait_for(lambda: app_log(own).count("config.reloaded") > before, 5)
    callers = [threading.Thread(target=own.client.chat, args=("sim-chat?silent=1",), kwargs={"stream": stream}) for stream in (False, True)]
    for caller in callers:
        caller.start()
    time.sleep(1)
    os.kill(app_pid(own), signal.SIGTERM)
    rows = wait_for(lambda: len(r := own.sql("select status, settled_by from headgate.requests")) == 2 and r, 15)
    assert rows and all(r == {"status": 499, "settled_by": 3} for r in rows), rows
    for caller in callers:
        caller.join()


def postgres_pid(stack):
    with open(os.path.join(stack.state, "data", "pg", "postmaster.pid") if os.path.exists(os.path.join(stack.state, "data", "pg"))
              else find(stack.state, "postmaster.pid"), encoding="ascii") as f:
        return int(f.readline())


def find(top, name):
    for root, _dirs, files in os.walk(top):
        if name in files:
            return os.path.join(root, name)
    raise FileNotFoundError(name)


def test_f02_without_postgresql_it_is_503_never_401_and_comes_back(own):
    own.client.chat()
    data = os.path.dirname(find(own.state, "postmaster.pid"))
    os.kill(postgres_pid(own), signal.SIGINT)
    assert wait_for(lambda: not os.path.exists(os.path.join(data, "postmaster.pid")), 20)
    time.sleep(1)
    answer = own.client.chat()
    assert answer.status == 503, answer
    assert answer.json()["error"]["code"] == "auth_unavailable" and answer.header("retry-after") == "2"
    assert own.client.get("/health/ready", headers={"Authorization": None}).status == 503
    assert own.client.get("/health/live", headers={"Authorization": None}).status == 200
    own.start()
    assert wait_for(lambda: own.client.chat().status == 200, 5)


def test_f20_without_memcached_everything_works(own):
    os.kill(own.pid("memcached"), signal.SIGTERM)
    assert wait_for(lambda: own.client.get("/health/ready").json()["status"] == "degraded", 5)
    assert own.client.get("/health/ready").status == 200
    assert own.client.chat().status == 200
    assert own.client.get("/v1/models").json()["data"]


def test_f03_calls_under_way_finish_when_postgresql_restarts(own):
    stream = own.client.stream("sim-chat?tokens=60&tokens_per_s=20")
    events = stream.events()
    next(events)
    os.kill(postgres_pid(own), signal.SIGQUIT)  # immediate: as after a crash
    data = os.path.dirname(find(own.state, "PG_VERSION"))
    time.sleep(0.5)
    own.start()
    rest = list(events)
    assert rest[-1] == "[DONE]"
    assert data
    row = wait_for(lambda: own.sql("select output_tokens from headgate.requests where id = :'id'::uuid", id=stream.request_id.removeprefix("req_")), 20)
    assert row and row[0]["output_tokens"] == 60


def test_a_revoked_key_is_refused_within_a_second(own):
    made = json.loads(own.ctl("key", "create", "--name", "short-lived", "--json").stdout)
    headers = {"Authorization": f"Bearer {made['key']}"}
    assert own.client.get("/v1/models", headers=headers).status == 200
    own.ctl("key", "revoke", made["id"])
    revoked = time.monotonic()
    while time.monotonic() - revoked < 1:
        if own.client.get("/v1/models", headers=headers).status == 401:
            break
    for _ in range(50):
        assert own.client.get("/v1/models", headers=headers).status == 401


def test_an_application_killed_comes_back_by_itself(own):
    pid = app_pid(own)
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: own.client.chat().status == 200, 10)
    assert wait_for(lambda: app_pid(own) != pid, 5)
    alive = json.loads(own.ctl("status", "--json").stdout)["processes"]
    assert pid not in [p["pid"] for p in alive], "a killed process left its place in the segment"


def test_logs_are_json_and_hold_no_key(own):
    own.client.chat(content="a prompt that is nobody's business")
    for line in app_log(own).splitlines():
        if line.startswith("{"):
            json.loads(line)
    text = app_log(own) + own.log("worker.log")
    for secret in (own.env["HEADGATE_API_KEY"], own.env["HEADGATE_ADMIN_API_KEY"], own.env["HEADGATE_ADMIN_PASSWORD"], "nobody's business"):
        assert secret not in text


def test_the_last_use_of_a_key_is_told(own):
    own.client.chat()
    os.kill(app_pid(own), signal.SIGTERM)  # the keeper writes at the end too
    def used():
        keys = json.loads(own.ctl("key", "list", "--json").stdout)
        rows = keys["data"] if isinstance(keys, dict) else keys
        return [k for k in rows if k.get("last_used_at")]
    assert wait_for(used, 40)


def worker(stack):
    with open(os.path.join(stack.run, "worker.proc"), encoding="ascii") as f:
        return int(f.read().split()[0])


def test_the_worker_makes_the_partitions_that_are_missing(own):
    days = "select count(*) n from pg_class where relname ~ '^requests_2' and relkind = 'r'"
    before = own.sql(days)[0]["n"]
    assert before >= 9  # yesterday, today, and a week ahead
    own.execute("do $$ declare t text; begin select max(relname) into t from pg_class where relname ~ '^requests_2' and relkind = 'r'; "
                "execute 'drop table headgate.' || t; end $$")
    assert own.sql(days)[0]["n"] == before - 1
    os.kill(worker(own), signal.SIGTERM)
    assert wait_for(lambda: not os.path.exists(f"/proc/{worker(own)}"), 5), "the worker does not end at SIGTERM"
    own.start()
    assert wait_for(lambda: own.sql(days)[0]["n"] == before, 10)


def test_the_worker_reloads_and_refuses_a_bad_configuration(own):
    os.kill(worker(own), signal.SIGHUP)
    assert wait_for(lambda: "config.reloaded" in own.log("worker.log"))
    with open(own.env["HEADGATE_CONFIG"], "a", encoding="utf-8") as f:
        f.write("\nnonsense = 1;\n")
    os.kill(worker(own), signal.SIGHUP)
    assert wait_for(lambda: "config.reload_refused" in own.log("worker.log"))
    assert os.path.exists(f"/proc/{worker(own)}")


def test_an_answer_whose_row_cannot_be_committed_in_time_says_so_and_the_row_comes_later(own):
    own.client.chat()
    held = subprocess.Popen([psql_program(), "-Xq", "-d", own.env["HEADGATE_DATABASE_URL"]], stdin=subprocess.PIPE, text=True)
    held.stdin.write("begin; lock table headgate.requests in access exclusive mode;\n")
    held.stdin.flush()
    assert wait_for(lambda: own.sql("select count(*) n from pg_locks where mode = 'AccessExclusiveLock' and granted "
                                    "and relation = 'headgate.requests'::regclass")[0]["n"] == 1)
    answer = own.client.chat()
    assert answer.status == 200 and answer.header("x-headgate-degraded") == "ledger"
    held.communicate("rollback;\n", timeout=10)
    row = wait_for(lambda: own.sql("select output_tokens from headgate.requests where id = :'id'::uuid", id=answer.request_id.removeprefix("req_")), 10)
    assert row and row[0]["output_tokens"] == answer.json()["usage"]["completion_tokens"]
    assert own.client.chat().header("x-headgate-degraded") is None


# --- the service manager ---------------------------------------------------------------------------------------------------

def told(manager, wanted, seconds=10):
    """The messages of the program up to the one wanted."""
    got, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        manager.settimeout(max(0.1, until - time.monotonic()))
        try:
            got.append(manager.recv(4096).decode())
        except TimeoutError:
            break
        if got[-1].startswith(wanted):
            return got
    pytest.fail(f"the service manager was not told {wanted}, but {got}")


@pytest.mark.parametrize("program", ["headgate.fcgi", "headgate-worker"])
def test_the_service_manager_is_told_how_the_program_is(headgate, program, tmp_path):
    build = os.environ.get("HEADGATE_BUILDDIR")
    if not build:
        pytest.skip("HEADGATE_BUILDDIR is not set")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, socket.socket(socket.AF_UNIX) as listener, open(tmp_path / "log", "wb") as log:
        manager.bind(b"\0headgate-test-" + os.urandom(8).hex().encode())
        listener.bind(str(tmp_path / "fcgi.sock"))
        listener.listen(8)
        env = {**os.environ, "HEADGATE_CONFIG": headgate.env["HEADGATE_CONFIG"], "WATCHDOG_USEC": "30000000",
               "NOTIFY_SOCKET": "@" + manager.getsockname()[1:].decode()}
        process = subprocess.Popen([os.path.join(build, "src", "main", program)], stdin=listener, stdout=log, stderr=log, env=env)
        try:
            assert told(manager, "READY=1") == ["READY=1"]
            told(manager, "WATCHDOG=1")
            told(manager, "WATCHDOG=1")
            process.send_signal(signal.SIGHUP)
            assert told(manager, "RELOADING=1\nMONOTONIC_USEC=")
            told(manager, "READY=1")
            process.send_signal(signal.SIGTERM)
            told(manager, "STOPPING=1")
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("unit", ["headgate.service", "headgate-worker.service"])
def test_the_units_are_shut_in(unit, tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    with open(os.path.join(TOP, "conf", "systemd", unit + ".in"), encoding="utf-8") as f:
        text = re.sub(r"@(bindir|sbindir|libexecdir)@", "/usr/bin", f.read())
    (tmp_path / unit).write_text(text, encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", str(tmp_path / unit)], capture_output=True, text=True, timeout=60)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found and float(found[1]) <= 1.5, done.stdout + done.stderr


def test_users_and_directories_are_what_systemd_can_make(tmp_path):
    for tool, page in (("systemd-sysusers", "sysusers.conf"), ("systemd-tmpfiles", "tmpfiles.conf")):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    (tmp_path / "etc").mkdir()
    units = os.path.join(TOP, "conf", "systemd")
    made = subprocess.run(["systemd-sysusers", f"--root={tmp_path}", os.path.join(units, "sysusers.conf")], capture_output=True, text=True, timeout=60)
    assert made.returncode == 0 and not made.stderr.count("syntax"), made.stderr
    users = (tmp_path / "etc" / "passwd").read_text(encoding="utf-8")
    assert re.search(r"^headgate:.*:/var/lib/headgate:.*nologin$", users, re.M), users
    with open(tmp_path / "etc" / "group", "a", encoding="utf-8") as f:
        f.write("www-data:x:33:\n")
    made = subprocess.run(["systemd-tmpfiles", "--create", f"--root={tmp_path}", os.path.join(units, "tmpfiles.conf")], capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    run = os.stat(tmp_path / "run" / "headgate")
    assert run.st_mode & 0o7777 == 0o750 and run.st_gid == 33, run


def test_f73_a_process_that_holds_keys_leaves_no_core(own):
    assert own.client.chat().status == 200
    with open(f"/proc/{app_pid(own)}/limits", encoding="ascii") as f:
        core = [line.split()[4:6] for line in f if line.startswith("Max core file size")]
    assert core == [["0", "0"]], core
