# SPDX-License-Identifier: Apache-2.0
"""headgatectl ledger: what stands beside PostgreSQL, and whether the ledger agrees with itself."""
import glob
import json
import os
import signal

import pytest

from stack import wait_for


@pytest.fixture
def own(own_stack):
    return own_stack("lighttpd")


def status(stack):
    return json.loads(stack.ctl("ledger", "status", "--json").stdout)["data"]


def app_pid(stack):
    processes = json.loads(stack.ctl("status", "--json").stdout)["processes"]
    return [p["pid"] for p in processes if p["program"] == "headgate.fcgi"][0]


def test_ledger_status_shows_a_call_under_way_and_its_owner(own):
    stream = own.client.stream("sim-chat?tokens=200&tokens_per_s=40")
    next(stream.events())
    files = [f for f in status(own) if f["kind"] == "in_flight" and f["entries"]]
    assert len(files) == 1 and files[0]["owner"] == "live" and files[0]["pid"] == app_pid(own) and files[0]["oldest_at"] and files[0]["bytes"] > 0
    assert "1 entry not in PostgreSQL yet" in own.ctl("ledger", "status").stdout
    list(stream.events())
    assert wait_for(lambda: sum(f["entries"] for f in status(own)) == 0)


def test_ledger_status_shows_what_a_dead_process_left_until_it_is_adopted(own):
    stream = own.client.stream("sim-chat?tokens=400&tokens_per_s=40")
    next(stream.events())
    with open(os.path.join(own.run, "worker.proc"), encoding="ascii") as f:
        worker = int(f.read().split()[0])
    os.kill(worker, signal.SIGSTOP)
    try:
        # a second file as a dead process leaves it: nobody holds it
        path = glob.glob(os.path.join(own.state, "data", "headgate", "inflight.*"))[0]
        os.kill(app_pid(own), signal.SIGSTOP)
        try:
            with open(path, "rb") as f, open(path + "0", "wb") as copy:
                copy.write(f.read())
            dead = [f for f in status(own) if f["owner"] == "dead"]
            assert len(dead) == 1 and dead[0]["entries"] == 1 and dead[0]["kind"] == "in_flight"
            assert "1 of dead processes" in own.ctl("ledger", "status").stdout
        finally:
            os.unlink(path + "0")
            os.kill(app_pid(own), signal.SIGCONT)
    finally:
        os.kill(worker, signal.SIGCONT)
    list(stream.events())


def test_ledger_verify_agrees_and_names_a_tampered_sum(own):
    for _ in range(3):
        own.client.chat()
    assert wait_for(lambda: own.sql("select count(*) n from headgate.requests")[0]["n"] == 3)
    done = own.ctl("ledger", "verify")
    assert "3 requests, 3 attempts" in done.stdout and "agree to the token and the nano-dollar" in done.stdout
    own.execute("set role headgate_committer; update headgate.usage_rollups set cost_nusd = cost_nusd + 1 "
                "where ctid = (select ctid from headgate.usage_rollups limit 1)")
    done = own.ctl("ledger", "verify", check=False)
    assert done.returncode == 1 and done.stdout.startswith("bucket ") and "they disagree" in done.stdout
    told = json.loads(own.ctl("ledger", "verify", "--json", check=False).stdout)
    assert told["agrees"] is False and told["disagreements"] == 1 and len(told["first"]) == 1 and told["requests"] == 3
    assert own.ctl("ledger", "verify", "--from", "2020-01-01T00:00:00Z", "--to", "2020-02-01T00:00:00Z").stdout.startswith("0 requests")
    assert own.ctl("ledger", "verify", "--from", "yesterday", check=False).returncode == 2
