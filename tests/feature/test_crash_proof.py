# SPDX-License-Identifier: Apache-2.0
"""Nothing lost: what a killed process had under way, and what PostgreSQL could not take, ends in the ledger once."""
import glob
import json
import os
import signal
import threading
import time

import pytest

from stack import wait_for


@pytest.fixture(params=["lighttpd", "apache-fcgid"])
def own(own_stack, request):
    return own_stack(request.param)


def app_pids(stack):
    status = json.loads(stack.ctl("status", "--json", check=False).stdout)
    return [p["pid"] for p in status["processes"] if p["program"] == "headgate.fcgi"]


def state_files(stack, kind):
    return glob.glob(os.path.join(stack.state, "data", "headgate", kind + ".*"))


def under_way(stack):
    """Attempts that have left for the provider, as the in-flight files tell: the state is the first word of each place."""
    n = 0
    for path in state_files(stack, "inflight"):
        with open(path, "rb") as f:
            data = f.read()
        n += sum(data[at:at + 4] == b"\x03\0\0\0" for at in range(4096, len(data), 2048))
    return n


def stop_postgresql(stack, how=signal.SIGINT):
    data = glob.glob(os.path.join(stack.state, "data", "*", "postmaster.pid"))[0]
    with open(data, encoding="ascii") as f:
        os.kill(int(f.readline()), how)
    assert wait_for(lambda: not os.path.exists(data) or how == signal.SIGKILL, 20)


def ledger_of(stack, attempt):
    rows = stack.sql("select a.settled_by, a.input_tokens, a.output_tokens, a.cost_nusd, r.status, r.error_code, r.cost_nusd as total, r.price_version "
                     "from headgate.attempts a join headgate.requests r on r.id = a.request_id where a.id = :'id'::uuid", id=attempt.removeprefix("att_"))
    assert len(rows) <= 1, rows
    return rows[0] if rows else None


def agree(stack):
    return stack.sql("select (select coalesce(sum(cost_nusd), 0) from headgate.requests) = (select coalesce(sum(cost_nusd), 0) from headgate.usage_rollups) "
                     "and (select count(*) from headgate.requests) = (select coalesce(sum(requests), 0) from headgate.usage_rollups) "
                     "and (select coalesce(sum(cost_nusd), 0) from headgate.requests) = (select coalesce(sum(cost_nusd), 0) from headgate.attempts) as same")[0]["same"]


def test_f70_a_stream_whose_process_is_killed_is_estimated(own):
    stream = own.client.stream("sim-chat?tokens=400&tokens_per_s=40")
    events = stream.events()
    got = [next(events) for _ in range(20)]
    for pid in app_pids(own):
        os.kill(pid, signal.SIGKILL)
    assert got and "[DONE]" not in list(events)
    call = wait_for(lambda: own.sim_calls(), 20)[0]
    row = wait_for(lambda: ledger_of(own, call["attempt_id"]), 30)
    assert row, "the call that the provider served is in no ledger row"
    assert (row["settled_by"], row["status"], row["error_code"]) == (3, 500, "process_died")
    assert row["output_tokens"] >= 15 and row["input_tokens"] > 0
    assert row["cost_nusd"] == row["total"] == row["input_tokens"] * 1000 + row["output_tokens"] * 2000 and row["price_version"] == 1
    assert agree(own)
    assert wait_for(lambda: len(state_files(own, "inflight")) <= len(app_pids(own)), 20)


def test_f02_calls_that_end_while_postgresql_is_away_are_spooled_and_written_later(own):
    answers = []

    def call(stream):
        answers.append(own.client.chat("sim-chat?tokens=60&tokens_per_s=10", stream=stream))
    callers = [threading.Thread(target=call, args=(stream,)) for stream in (False, True, False)]
    for caller in callers:
        caller.start()
    assert wait_for(lambda: under_way(own) == 3)
    stop_postgresql(own)
    for caller in callers:
        caller.join()
    assert [a.status for a in answers] == [200, 200, 200], answers
    assert state_files(own, "spool")
    own.start()
    calls = own.sim_calls()
    assert len(calls) == 3
    for served in calls:
        row = wait_for(lambda: ledger_of(own, served["attempt_id"]), 30)
        assert row and row["settled_by"] == 1 and row["output_tokens"] == 60, row
    assert agree(own)
    assert wait_for(lambda: own.client.get("/health/ready").json()["dependencies"]["ledger"]["accounting"] == "ok", 20)


def test_f70_killed_while_postgresql_is_away_nothing_is_lost(own):
    caller = threading.Thread(target=own.client.chat, args=("sim-chat?tokens=30&tokens_per_s=30",))
    caller.start()
    assert wait_for(lambda: under_way(own) == 1)
    pids = app_pids(own)
    stop_postgresql(own)
    time.sleep(1.3)  # the answer has come, its entry waits
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    caller.join()
    own.start()
    call = wait_for(lambda: own.sim_calls(), 10)[0]
    row = wait_for(lambda: ledger_of(own, call["attempt_id"]), 30)
    assert row and row["settled_by"] in (1, 3), row
    assert row["output_tokens"] in (0, 30) and agree(own)
