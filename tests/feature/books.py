# SPDX-License-Identifier: Apache-2.0
"""The simulator's books and ours, laid side by side: what a provider served stands in the ledger, once, and as the caller was told."""
import glob
import json
import os
import signal
import threading

from stack import wait_for

NONE, PROVIDER_USAGE, COUNTED, ESTIMATED = range(4)


class Call:
    """One call of a client, and what the client saw of it: done (a whole answer, or the stream's terminal event), or not."""

    def __init__(self, stack, model, stream):
        self.stack, self.model, self.is_stream = stack, model, stream
        self.status = self.request_id = self.error = None
        self.events = []
        self.done = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            self.stream() if self.is_stream else self.whole()
        except (OSError, ValueError, IndexError, EOFError) as error:  # cut off, at whatever place
            self.error = error
        except Exception as error:  # http.client's own
            self.error = error

    def whole(self):
        answer = self.stack.client.request("POST", "/v1/chat/completions", {"model": self.model, "messages": [{"role": "user", "content": "Hello!"}]},
                                           timeout=30)
        self.status, self.request_id = answer.status, answer.request_id
        self.done = answer.status == 200 and "choices" in answer.json()

    def stream(self):
        stream = self.stack.client.stream(self.model, timeout=30)
        self.status, self.request_id = stream.status, stream.request_id
        for event in stream.events():
            self.events.append(event)
        self.done = self.status == 200 and self.events[-1:] == ["[DONE]"]

    def wait(self):
        self.thread.join(60)
        assert not self.thread.is_alive(), f"a call of {self.model} hangs"
        return self

    def __repr__(self):
        return f"<{'stream' if self.is_stream else 'whole'} {self.model} {self.status} done={self.done} {self.request_id} {self.error!r}>"


def attempts(stack):
    """attempt id -> rows."""
    rows = stack.sql("select a.id, a.request_id, a.settled_by, a.input_tokens, a.output_tokens, a.cost_nusd, a.complete, r.status, r.error_code "
                     "from headgate.attempts a join headgate.requests r on r.id = a.request_id")
    books = {}
    for row in rows:
        books.setdefault("att_" + row["id"], []).append(row)
    return books


def missing(stack):
    booked = attempts(stack)
    return [c["attempt_id"] for c in stack.sim_calls() if c["attempt_id"] and c["attempt_id"] not in booked]


def balance(stack, calls, seconds=30):
    """Assert that both books agree. `calls`: what clients saw."""
    assert wait_for(lambda: not missing(stack), seconds), f"served by the provider, in no ledger row: {missing(stack)}"
    served = {c["attempt_id"]: c for c in stack.sim_calls()}
    booked = attempts(stack)
    twice = {i: rows for i, rows in booked.items() if len(rows) != 1}
    assert not twice, f"in the ledger more than once: {twice}"
    for attempt, call in served.items():
        row = booked[attempt][0]
        assert row["settled_by"] != NONE or call["status"] != 200, f"served, and billed as nothing: {row}, {call}"
        if row["settled_by"] == PROVIDER_USAGE:
            assert (row["input_tokens"], row["output_tokens"]) == (call["input_tokens"], call["output_tokens"]), (row, call)
        if row["error_code"] == "process_died":
            assert row["settled_by"] in (NONE, ESTIMATED), f"guessed, and not marked so: {row}"
    by_request = {"req_" + rows[0]["request_id"]: rows[0] for rows in booked.values()}
    for call in calls:
        if call.done:
            row = by_request.get(call.request_id)
            assert row and row["settled_by"] == PROVIDER_USAGE and row["status"] == 200, f"{call} was answered whole; the ledger says {row}"
    sums_agree(stack)


def sums_agree(stack):
    same = stack.sql("select (select coalesce(sum(cost_nusd), 0) from headgate.requests) as requests, (select coalesce(sum(cost_nusd), 0) from headgate.usage_rollups) as rollups, "
                     "(select coalesce(sum(cost_nusd), 0) from headgate.attempts) as attempts, (select count(*) from headgate.requests) as n, "
                     "(select coalesce(sum(requests), 0) from headgate.usage_rollups) as counted")[0]
    assert same["requests"] == same["rollups"] == same["attempts"] and same["n"] == same["counted"], same


def app_pids(stack):
    """Processes of headgate.fcgi of this stack, whatever started them."""
    program, found = os.path.join(stack.state, "bin", "headgate.fcgi"), []
    for path in glob.glob("/proc/[0-9]*/exe"):
        try:
            if os.readlink(path).split(" (")[0] == program:
                found.append(int(path.split("/")[2]))
        except OSError:
            continue
    return found


def kill(pids, how=signal.SIGKILL):
    for pid in pids:
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            continue


def state_files(stack):
    return [f for kind in ("inflight", "spool") for f in glob.glob(os.path.join(stack.state, "data", "headgate", kind + ".*"))]


def serves_again(stack):
    def asked():
        try:
            return stack.client.request("GET", "/health/ready", timeout=10).status == 200
        except Exception:
            return False
    assert wait_for(asked, 20), "it does not come back"


def no_ghosts(stack):
    """Afterwards only the living have a place: in the gauges, and in the state directory."""
    def living():
        status = json.loads(stack.ctl("status", "--json", check=False).stdout)
        return all(os.path.exists(f"/proc/{p['pid']}") and p["in_flight"] == 0 for p in status["processes"])
    assert wait_for(living, 15), stack.ctl("status", "--json", check=False).stdout

    def kept():  # a process has one file of each kind at most
        return all(len([f for f in state_files(stack) if f"/{kind}." in f]) <= len(app_pids(stack)) for kind in ("inflight", "spool"))
    assert wait_for(kept, 30), (state_files(stack), app_pids(stack))
