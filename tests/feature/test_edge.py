# SPDX-License-Identifier: Apache-2.0
"""The edge contract (F-60 to F-69): what web server and application make of a request together, with the shipped files, on each of
the four set-ups. Where servers differ in what they refuse, the tests hold the invariant: refused, or understood alike."""
import concurrent.futures
import contextlib
import json
import os
import signal
import time

import pytest

from client import Client, timed
from stack import PATIENCE, WEBS, wait_for

CHAT = '{"model":"sim-chat","messages":[{"role":"user","content":"Hello!"}]}'


def head(gateway, *lines, path="/v1/chat/completions", length=len(CHAT)):
    return "\n".join([f"POST {path} HTTP/1.1", "Content-Type: application/json", f"Content-Length: {length}", *lines])


def bearer(gateway):
    return f"Authorization: Bearer {gateway.client.key}"


def assert_still_serves(gateway):
    assert gateway.client.chat().status == 200


# --- streams and callers who leave --------------------------------------------------------------------------------------

def test_f63_events_arrive_as_they_are_made(gateway):
    stream = gateway.client.stream(model="sim-chat?tokens=20&tokens_per_s=10")
    times = [t for t, _ in timed(stream.events())]
    assert times[0] < 0.5 * PATIENCE and times[-1] > 1.5, "buffered on the way"
    gaps = [b - a for a, b in zip(times, times[1:])]
    assert max(gaps) < 0.6 * PATIENCE


@pytest.mark.parametrize("reset", [False, True], ids=["f60-fin", "f61-rst"])
def test_f60_f61_a_caller_who_leaves_a_flowing_stream_ends_the_call_upstream(gateway, reset):
    model = f"sim-chat?tokens=600&tokens_per_s=20&tag=leave-{gateway.web}-{reset}"
    stream = gateway.client.stream(model=model)
    events = stream.events()
    for _ in range(4):
        next(events)
    left = time.monotonic()
    stream.leave(reset)
    assert wait_for(lambda: gateway.sim_calls(model), 8), "the simulator was never told"
    assert time.monotonic() - left < 5.5 * PATIENCE
    call, = gateway.sim_calls(model)
    assert call["complete"] is False and call["output_tokens"] < 200
    row = gateway.request(stream.request_id)
    assert row["status"] == 499 and row["usage"]["output_tokens"] >= 3 and row["settled_by"] == "counted"


def test_f60_a_caller_who_leaves_in_silence_is_noticed_too(gateway):
    """The stream has begun and then nothing comes: comments tell that the caller is gone (10.5 s on Apache, which needs two)."""
    model = f"sim-chat?tokens=100&stall_after=3&tag=silence-{gateway.web}"
    stream = gateway.client.stream(model=model)
    next(stream.events())
    stream.leave()
    left = time.monotonic()
    assert wait_for(lambda: gateway.sim_calls(model), 20, every=0.1), "the simulator was never told"
    limit = {"nginx": 2, "lighttpd": 6.5, "apache": 11.5, "apache-fcgid": 11.5}[gateway.web]
    assert time.monotonic() - left < limit * PATIENCE


def test_a_silent_provider_is_bridged_by_comments_and_then_answers(gateway):
    stream = gateway.client.stream(model="sim-chat?first_token_ms=17000&tokens=3")
    lines = [line for line in stream.lines() if line]
    assert sum(line.startswith(":") for line in lines) >= 1 and lines[-1] == "data: [DONE]"


def descendants(pid):
    """The process and all below it: (pid, program), as /proc tells now."""
    parents = {}
    for other in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{other}/stat", encoding="latin-1") as f:
                text = f.read()
        except OSError:
            continue
        name, rest = text[text.index("(") + 1:].rsplit(")", 1)
        parents[int(other)] = (int(rest.split()[1]), name)
    found, new = {pid}, {pid}
    while new:
        new = {p for p, (parent, _) in parents.items() if parent in new} - found
        found |= new
    return [(p, parents[p][1]) for p in found if p in parents]


def resident_kib(programs):
    total = 0
    for pid, _ in programs:
        with open(f"/proc/{pid}/status", encoding="latin-1") as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith("RssAnon:"))
    return total


def serving(gateway):
    """The processes a stream passes through: the web server's and the application's."""
    parts = ["web", "app"] if gateway.web in ("nginx", "apache") else ["web"]
    return [p for part in parts for p in descendants(gateway.pid(part))]


def test_f62_a_slow_reader_holds_the_provider_back_and_fills_no_memory(gateway):
    """About 60 MB of events to a caller who reads 1 kB/s: the simulator must wait, neither web server nor application may hold them."""
    model = f"sim-chat?tokens=200000&tag=slow-{gateway.web}"
    gateway.client.chat()
    before = resident_kib(serving(gateway))
    stream = gateway.client.stream(model=model)
    for _ in range(4):
        stream.file.read1(512)
        time.sleep(0.5)
    assert not gateway.sim_calls(model), "the simulator is rid of all its events: who holds them?"
    assert resident_kib(serving(gateway)) - before < 16 * 1024
    stream.leave()
    assert wait_for(lambda: gateway.sim_calls(model), 20), "the simulator was never told"
    row = gateway.request(stream.request_id)
    assert row["status"] == 499 and row["settled_by"] == "counted"


def test_f62_a_slow_reader_gets_the_whole_answer(gateway):
    events = gateway.client.stream(model="sim-chat?tokens=3000").events()
    for _ in range(50):
        next(events)
        time.sleep(0.02)
    found = list(events)
    assert len(found) >= 2950 and found[-1] == "[DONE]"


# --- web servers that are reloaded or die --------------------------------------------------------------------------------

GRACEFUL = {"lighttpd": signal.SIGUSR1, "nginx": signal.SIGHUP, "apache": signal.SIGUSR1, "apache-fcgid": signal.SIGUSR1}
PROGRAMS = {"lighttpd": "lighttpd", "nginx": "nginx", "apache": "apache2", "apache-fcgid": "apache2"}


@pytest.mark.parametrize("web", WEBS)
def test_f64_a_graceful_reload_lets_streams_finish_or_cuts_them_honestly(own_stack, web):
    """Two streams are under way, one short, one of 20 s. Each ends with its terminal event, or without one and is accounted as cut.
    Calls made meanwhile are served."""
    stack = own_stack(web)
    models = [f"sim-chat?tokens={tokens}&tokens_per_s=20" for tokens in (40, 400)]
    streams = [stack.client.stream(model=model) for model in models]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        firsts = [s.events() for s in streams]
        for events in firsts:
            next(events)
        os.kill(stack.pid("web"), GRACEFUL[web])
        ends = [pool.submit(rest, events) for events in firsts]
        for _ in range(5):
            answer = stack.client.chat()
            assert answer.status == 200, answer
            time.sleep(0.2)
        whole = [end.result(60 * PATIENCE)[-1:] == ["[DONE]"] for end in ends]
    for stream, model, done in zip(streams, models, whole):
        row = stack.request(stream.request_id)
        calls = stack.sim_calls(model)
        assert len(calls) == 1 and calls[0]["complete"] is done, (whole, calls)
        assert (row["status"], row["settled_by"]) == ((200, "provider_usage") if done else (499, "counted")), (whole, row)
    assert_still_serves(stack)


def rest(events):
    """What still comes, up to the end of the connection, however it ends."""
    found = []
    try:
        for event in events:
            found.append(event)
    except (OSError, ValueError):
        pass
    return found


@pytest.mark.parametrize("web", WEBS)
def test_f65_streams_end_and_are_accounted_when_the_web_server_is_killed(own_stack, web):
    stack = own_stack(web)
    model = "sim-chat?tokens=2000&tokens_per_s=20&tag=killed"
    stream = stack.client.stream(model=model)
    next(stream.events())
    below = descendants(stack.pid("web"))
    killed = time.monotonic()
    for pid, program in below:
        if program == PROGRAMS[web]:
            os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: stack.sim_calls(model), 5, every=0.02), "the simulator was never told"
    assert time.monotonic() - killed < 1 * PATIENCE
    assert stack.sim_calls(model)[0]["complete"] is False
    for pid, program in below:  # the application's processes the web server started outlive it; no part of the stack knows them
        if program != PROGRAMS[web]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
    stack.start()
    row = stack.request(stream.request_id)
    assert row["status"] == 499 and row["settled_by"] == "counted"


# --- what reaches the application ---------------------------------------------------------------------------------------

def test_f66_authorization_reaches_the_application(gateway):
    assert gateway.client.chat().status == 200
    answer = Client("127.0.0.1", gateway.port, None).chat()
    assert answer.status == 401


@pytest.mark.parametrize("size", [100_000, 200_000, 1_200_000, 30_000_000])
def test_bodies_up_to_the_limit_pass(gateway, size):
    frame = json.loads(CHAT)
    frame["messages"][0]["content"] = ""
    frame["messages"][0]["content"] = "word " * ((size - len(json.dumps(frame))) // 5)
    answer = gateway.client.post("/v1/chat/completions", frame)
    assert answer.status == 200, answer
    assert answer.json()["usage"]["prompt_tokens"] > size / 10


def test_f69_a_body_over_the_limit_is_413_in_our_words(gateway):
    size = 33 * 1024 * 1024
    answer = gateway.client.raw(head(gateway, bearer(gateway), length=size), b" " * size)
    assert answer.status == 413, answer
    assert answer.json()["error"]["message"]
    assert_still_serves(gateway)


def test_f69_no_body_and_an_empty_one_are_400(gateway):
    assert gateway.client.raw(head(gateway, bearer(gateway), length=0)).status == 400
    assert gateway.client.request("POST", "/v1/chat/completions", headers={"Content-Type": "application/json"}).status == 400


def test_f69_a_chunked_body_is_read_whole(gateway):
    lines = ["POST /v1/chat/completions HTTP/1.1", "Content-Type: application/json", "Transfer-Encoding: chunked", bearer(gateway)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (CHAT[:20].encode(), CHAT[20:].encode())) + b"0\r\n\r\n"
    assert gateway.client.raw("\n".join(lines), body).status == 200


def test_f56_a_body_that_looks_like_fastcgi_records_is_only_data(gateway):
    record = "\\u0001\\u0002\\u0000\\u0001" + "\x7f" * 8 + "\\u0001\\u0003"
    body = CHAT.replace("Hello!", record * 500).encode()
    assert gateway.client.raw(head(gateway, bearer(gateway), length=len(body)), body).status == 200
    raw = bytes([1, 3, 0, 1, 0, 8, 0, 0] * 50)
    assert gateway.client.raw(head(gateway, bearer(gateway), length=len(raw)), raw).status == 400
    assert_still_serves(gateway)


def test_f68_two_authorization_lines_are_refused(gateway):
    answer = gateway.client.raw(head(gateway, bearer(gateway), "Authorization: Bearer other-key-altogether"), CHAT.encode())
    assert answer.status == 400, answer


def test_f68_an_underscore_is_no_other_way_to_say_a_header(gateway):
    """lighttpd passes both spellings under one name, which the application refuses; the others drop the wrong one."""
    answer = gateway.client.raw(head(gateway, f"X-Api-Key: {gateway.client.key}", "X_Api_Key: other-key-altogether"), CHAT.encode())
    assert answer.status in (200, 400), answer
    answer = gateway.client.raw(head(gateway, bearer(gateway), "Content_Length: 5"), CHAT.encode())
    assert answer.status in (200, 400), answer


@pytest.mark.parametrize("line", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_f68_two_lengths_are_never_understood_in_two_ways(gateway, line):
    answer = gateway.client.raw(head(gateway, bearer(gateway), line), CHAT.encode())
    assert answer.status >= 400, answer
    assert_still_serves(gateway)


def test_f68_folded_lines_and_nul_are_refused_or_harmless(gateway):
    for line in ("X-Folded: a\n b", "X-Nul: a\0b", "X-High: \xff\xfe"):
        answer = gateway.client.raw(head(gateway, bearer(gateway), line), CHAT.encode())
        assert answer.status in (200, 400), (line, answer)
    assert_still_serves(gateway)


def test_f67_a_proxy_header_does_not_turn_our_calls_elsewhere(gateway):
    answer = gateway.client.raw(head(gateway, bearer(gateway), "Proxy: http://127.0.0.1:1/"), CHAT.encode())
    assert answer.status == 200


def test_f69_long_headers_pass_up_to_12_kib_and_are_refused_over_64(gateway):
    assert gateway.client.raw(head(gateway, bearer(gateway), "X-Long: " + "a" * 12_000), CHAT.encode()).status == 200
    assert gateway.client.raw(head(gateway, bearer(gateway), "X-Long: " + "a" * 70_000), CHAT.encode()).status in (400, 431)
    assert_still_serves(gateway)


def test_f69_a_long_path_and_a_thousand_headers_are_refused(gateway):
    assert gateway.client.raw(head(gateway, bearer(gateway), path="/v1/" + "a" * 65_000), CHAT.encode()).status in (400, 414, 431)
    many = [f"X-Header-{i}: {i}" for i in range(1000)]
    assert gateway.client.raw(head(gateway, bearer(gateway), *many), CHAT.encode()).status in (400, 431)
    assert_still_serves(gateway)


def test_encoded_slashes_stay_encoded(gateway):
    for path in ("/v1/models/meta%2Fllama", "/v1/models/a%3Ab", "/v1/models/100%25"):
        answer = gateway.client.get(path)
        assert answer.status == 404 and answer.json()["error"]["code"] == "model_not_found", (path, answer)


def test_errors_of_unknown_paths_are_ours_on_every_server(gateway):
    for path in ("/", "/index.html", "/v2/x", "/v1/../etc/passwd", "/.well-known/x"):
        answer = gateway.client.get(path)
        assert answer.status in (400, 404), (path, answer)
        if answer.status == 404:
            assert answer.json()["error"]["message"]


def test_health_needs_no_key(gateway):
    anybody = Client("127.0.0.1", gateway.port, None)
    assert anybody.get("/health/live").status == 200 and anybody.get("/health/ready").status == 200


def test_head_is_get_without_a_body(gateway):
    answer = gateway.client.request("HEAD", "/health/live")
    assert answer.status == 200 and answer.body == b""


# --- mod_fcgid --------------------------------------------------------------------------------------------------------------

@pytest.mark.skipif("apache-fcgid" not in WEBS, reason="apache-fcgid is not among HEADGATE_WEBS")
@pytest.mark.parametrize("web", ["apache-fcgid"])
def test_sixty_slow_streams_fit_under_a_hundred_connections(stacks, web):
    """One process per stream; none holds a connection to PostgreSQL it does not need (max_connections = 100)."""
    gateway = stacks.get(web)
    def one(i):
        stream = gateway.client.stream(model="sim-chat?tokens=20&tokens_per_s=4")
        return stream.status, list(stream.events())[-1]
    with concurrent.futures.ThreadPoolExecutor(60) as pool:
        ends = list(pool.map(one, range(60)))
    assert ends == [(200, "[DONE]")] * 60, ends


@pytest.mark.long
@pytest.mark.skipif("apache-fcgid" not in WEBS, reason="apache-fcgid is not among HEADGATE_WEBS")
@pytest.mark.parametrize("web", ["apache-fcgid"])
def test_one_call_of_more_than_300_seconds(stacks, web):
    stream = stacks.get(web).client.stream(model="sim-chat?tokens=320&tokens_per_s=1", timeout=400)
    assert list(stream.events())[-1] == "[DONE]"
