# SPDX-License-Identifier: Apache-2.0
"""The road of a call: what the provider gets, what the caller gets, and what the ledger says of it."""
import json
import re
import time

import pytest

from provider import Provider, http_answer, http_stream
from stack import wait_for

MESSAGES = [{"role": "user", "content": "Hello there, what is the weather like?"}]


@pytest.fixture
def provider(headgate):
    """A provider of the test's own behind the model `own`, priced like the simulator."""
    p = Provider()
    headgate.ctl("provider", "add", "own", "--kind", "openai", "--base-url", p.url, "--allow-http", "--allow-private", "--api-key-stdin", stdin="sk-own-secret\n")
    headgate.ctl("model", "add", "own", "--target", "own=upstream-name")
    yield p
    headgate.ctl("model", "remove", "own")
    headgate.ctl("provider", "remove", "own")
    p.close()


SETTLED = ["none", "provider_usage", "counted", "estimated"]


def ledger_row(stack, request_id):
    def asked():
        rows = stack.sql("select * from headgate.requests where id = :'id'::uuid", id=request_id.removeprefix("req_"))
        return rows[0] if rows else None
    row = wait_for(asked, 10)
    assert row, f"{request_id} is not in the ledger"
    row["settled_by"] = SETTLED[row["settled_by"]]
    return row


def attempts_of(stack, request_id):
    return stack.sql("select * from headgate.attempts where request_id = :'id'::uuid order by number", id=request_id.removeprefix("req_"))


ANSWER = ('{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"upstream-name-2026","x_unknown":{"a":[1,2.50,1e400]},'
          '"choices":[{"index":0,"message":{"role":"assistant","content":"h\\u00e9llo","refusal":null},"finish_reason":"stop","logprobs":null}],'
          '"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18,"prompt_tokens_details":{"cached_tokens":4},'
          '"completion_tokens_details":{"reasoning_tokens":2}}}')


def chunk(content=None, finish=None, usage="null"):
    delta = json.dumps({"content": content} if content is not None else {})
    return (f'data: {{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{{"index":0,"delta":{delta},'
            f'"finish_reason":{json.dumps(finish)}}}],"usage":{usage}}}\n\n').encode()


USAGE = b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}\n\n'
DONE = b"data: [DONE]\n\n"


# --- bytes pass through -----------------------------------------------------------------------------------------------

def test_the_body_passes_through_byte_for_byte_but_for_the_model(headgate, provider):
    provider.answer = http_answer(ANSWER)
    body = '{ "messages" : [ {"role":"user","content":"h\\u00e9 \\ud83d\\ude00"} ],\n\t"temperature":0.7000, "unknown":{"deep":[1,-0,1E+2]}, "model" : "own" }'
    answer = headgate.client.post("/v1/chat/completions", body, headers={"Content-Type": "application/json"})
    assert answer.status == 200, answer
    assert provider.calls[0][1].decode() == body.replace('"own"', '"upstream-name"')
    assert answer.body.decode() == ANSWER


def test_the_provider_gets_its_own_key_and_the_attempt_id(headgate, provider):
    provider.answer = http_answer(ANSWER)
    answer = headgate.client.chat("own", headers={"X-Api-Key": None})
    head = provider.calls[0][0]
    assert "Authorization: Bearer sk-own-secret" in head
    assert headgate.client.key not in head
    attempt = re.search(r"x-client-request-id: att_(\S+)", head)[1]
    assert [a["id"] for a in attempts_of(headgate, answer.request_id)] == [attempt]


@pytest.mark.parametrize("parent", ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None])
def test_a_trace_goes_through_provider_and_log(headgate, provider, parent):
    provider.answer = http_answer(ANSWER)
    answer = headgate.client.chat("own", headers={"traceparent": parent, "tracestate": "rojo=00f067aa0ba902b7"})
    assert answer.status == 200, answer
    sent = re.search(r"^traceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])\r?$", provider.calls[0][0], re.M | re.I)
    kept = bool(parent and parent.startswith("00"))
    assert (sent[1] == "0af7651916cd43dd8448eb211c80319c") == kept and sent[2] != "b7ad6b7169203331" and (sent[3] == "01") == kept
    assert ("tracestate: rojo=00f067aa0ba902b7" in provider.calls[0][0]) == kept

    def lines():
        return [json.loads(x) for x in (headgate.log("web.log") + headgate.log("app.log")).splitlines() if '"event":"request"' in x]
    line = wait_for(lambda: [x for x in lines() if "req_" + x["request_id"].removeprefix("req_") == answer.request_id], 5)[0]
    assert line["trace_id"] == sent[1] and line["span_id"] == sent[2] and line["method"] == "POST" and line["status"] == 200
    assert line["organization"].startswith("org_") and line["key"].startswith("key_") and line["endpoint"] == "/v1/chat/completions"
    assert all(line[stage] >= 0 for stage in ("duration_us", "read_us", "auth_us", "decode_us", "route_us", "upstream_us", "settle_us"))


def test_streaming_asks_for_usage_and_hides_the_chunk_nobody_asked_for(headgate, provider):
    provider.answer = http_stream(chunk("Hel"), chunk("lo"), chunk(finish="stop"), USAGE, DONE)
    got = headgate.client.stream("own").read()
    assert json.loads(provider.calls[0][1])["stream_options"] == {"include_usage": True}
    assert got == chunk("Hel") + chunk("lo") + chunk(finish="stop") + DONE


def test_the_usage_chunk_stays_for_who_asked(headgate, provider):
    provider.answer = http_stream(chunk("Hello"), chunk(finish="stop"), USAGE, DONE)
    got = headgate.client.stream("own", stream_options={"include_usage": True}).read()
    assert got == chunk("Hello") + chunk(finish="stop") + USAGE + DONE


# --- what it costs --------------------------------------------------------------------------------------------------------

def test_a_whole_answer_is_in_the_ledger_to_the_nano_dollar(headgate):
    answer = headgate.client.chat("sim-chat?tokens=20")
    usage = answer.json()["usage"]
    row = ledger_row(headgate, answer.request_id)
    assert (row["input_tokens"], row["output_tokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert row["cost_nusd"] == usage["prompt_tokens"] * 1000 + usage["completion_tokens"] * 2000
    assert row["settled_by"] == "provider_usage"
    told = headgate.request(answer.request_id)
    assert told["cost"]["usd"] == f"{row['cost_nusd'] / 1e9:.9f}"
    assert told["attempts"][0]["status"] == 200


def test_the_simulator_and_the_ledger_agree_on_a_stream(headgate):
    model = "sim-chat?tokens=33&seed_of_test=1".split("&")[0]
    stream = headgate.client.stream(model)
    events = list(stream.events())
    assert events[-1] == "[DONE]"
    row = ledger_row(headgate, stream.request_id)
    attempt = attempts_of(headgate, stream.request_id)[0]["id"]
    call = wait_for(lambda: [c for c in headgate.sim_calls() if c["attempt_id"] == f"att_{attempt}"])[0]
    assert (call["input_tokens"], call["output_tokens"], call["complete"]) == (row["input_tokens"], row["output_tokens"], True)
    assert row["stream"] is True and row["first_token_us"] > 0


def test_cached_and_reasoning_tokens_are_kept_apart(headgate, provider):
    provider.answer = http_answer(ANSWER)
    row = ledger_row(headgate, headgate.client.chat("own").request_id)
    assert (row["input_tokens"], row["cached_tokens"], row["output_tokens"], row["reasoning_tokens"]) == (11, 4, 7, 2)
    assert row["model_requested"] == "own" and row["model_served"] == "upstream-name-2026"


def test_a_call_without_a_price_is_served_with_cost_null(headgate, provider):
    provider.answer = http_answer(ANSWER)
    answer = headgate.client.chat("own")
    assert answer.status == 200
    assert ledger_row(headgate, answer.request_id)["cost_nusd"] is None
    assert headgate.request(answer.request_id)["cost"]["usd"] is None


# --- streams that fail ------------------------------------------------------------------------------------------------------

def in_band_error(events):
    error = json.loads(events[-1])
    assert "error" in error, events[-1]
    return error["error"]


@pytest.mark.parametrize("fault", ["cut_after=5", "reset_after=5"])
def test_a_cut_stream_ends_with_an_error_in_band_and_is_counted(headgate, fault):
    stream = headgate.client.stream(f"sim-chat?tokens=40&{fault}")
    events = list(stream.events())
    assert "[DONE]" not in events
    assert in_band_error(events)["code"] == "upstream_error"
    row = ledger_row(headgate, stream.request_id)
    assert row["settled_by"] == "counted" and row["status"] == 502
    deltas = sum(1 for e in events[:-1] if json.loads(e)["choices"][0]["delta"].get("content"))
    assert row["counted_deltas"] == deltas and row["estimated_output_tokens"] > 0
    assert row["output_tokens"] == max(row["counted_deltas"], row["estimated_output_tokens"])
    assert row["input_tokens"] == row["estimated_input_tokens"] > 0
    assert row["cost_nusd"] == row["input_tokens"] * 1000 + row["output_tokens"] * 2000


@pytest.mark.parametrize("told, settled_by, output", [(1, "counted", 6), (50, "provider_usage", 50)])
def test_usage_in_every_chunk_of_a_cut_stream_holds_only_when_it_is_not_below_what_came(headgate, provider, told, settled_by, output):
    usage = json.dumps({"prompt_tokens": 9, "completion_tokens": told, "total_tokens": 9 + told})
    provider.answer = http_stream(*[chunk(word, usage=usage) for word in ("One ", "two ", "three ", "four ", "five ", "six ")])
    stream = headgate.client.stream("own")
    in_band_error(list(stream.events()))
    row = ledger_row(headgate, stream.request_id)
    assert row["settled_by"] == settled_by and row["output_tokens"] >= output


def test_what_was_refused_costs_nothing_and_is_not_unpriced(headgate):
    before = headgate.client.get("/v1/usage").json()["total"]["unpriced_requests"]
    answer = headgate.client.chat("no-such-model")
    assert ledger_row(headgate, answer.request_id)["cost_nusd"] == 0
    assert headgate.client.get("/v1/usage").json()["total"]["unpriced_requests"] == before


def test_a_whole_answer_may_take_longer_than_a_first_token(headgate, provider):
    headgate.ctl("provider", "add", "own", "--base-url", provider.url, "--allow-http", "--allow-private", "--first-byte-timeout", "1000")
    provider.answer = lambda head, body: (time.sleep(2.5), http_answer(ANSWER))[1]
    assert headgate.client.chat("own").status == 200
    stream = headgate.client.stream("own")
    assert stream.status == 504


def test_an_error_event_of_the_provider_is_told_and_ends_the_stream(headgate, provider):
    provider.answer = http_stream(chunk("Hel"), b'data: {"error":{"message":"the model caught fire","type":"server_error","code":"fire"}}\n\n')
    events = list(headgate.client.stream("own").events())
    assert "fire" in in_band_error(events)["message"]


def test_garbage_in_a_stream_is_an_error_not_a_message(headgate):
    stream = headgate.client.stream("sim-chat?garbage=1")
    if stream.status == 200:
        assert "[DONE]" not in list(stream.events())
    else:
        assert stream.status == 502


def test_a_stream_without_usage_is_counted(headgate):
    stream = headgate.client.stream("sim-chat?tokens=12&usage=missing")
    assert list(stream.events())[-1] == "[DONE]"
    row = ledger_row(headgate, stream.request_id)
    assert row["settled_by"] == "counted" and row["output_tokens"] >= 12


def test_late_usage_is_taken(headgate):
    stream = headgate.client.stream("sim-chat?tokens=12&usage=late")
    assert list(stream.events())[-1] == "[DONE]"
    row = ledger_row(headgate, stream.request_id)
    assert (row["settled_by"], row["output_tokens"]) == ("provider_usage", 12)


def test_a_caller_who_leaves_ends_the_call_upstream_and_pays_for_what_came(gateway):
    model = f"sim-chat?tokens=4000&tokens_per_s=50&first_token_ms={int(time.time()) % 50}"
    stream = gateway.client.stream(model)
    events = stream.events()
    for _ in range(5):
        next(events)
    stream.leave()
    call = wait_for(lambda: gateway.sim_calls(model), 20)
    assert call and call[-1]["complete"] is False
    row = ledger_row(gateway, stream.request_id)
    assert row["status"] == 499 and row["settled_by"] == "counted" and row["output_tokens"] >= 4


# --- providers that refuse ----------------------------------------------------------------------------------------------------

def test_a_providers_401_is_our_502(headgate, provider):
    provider.answer = http_answer('{"error":{"message":"Incorrect API key provided: sk-own-secret","type":"invalid_request_error","code":"invalid_api_key"}}',
                                  "401 Unauthorized")
    answer = headgate.client.chat("own")
    assert answer.status == 502
    assert answer.json()["error"]["code"] == "upstream_auth_error"
    assert answer.header("x-should-retry") == "false"
    assert "sk-own-secret" not in answer.body.decode()
    row = ledger_row(headgate, answer.request_id)
    assert (row["settled_by"], row["cost_nusd"]) == ("none", 0)


def test_a_providers_refusal_keeps_status_and_code(headgate, provider):
    provider.answer = http_answer('{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}',
                                  "400 Bad Request")
    answer = headgate.client.chat("own")
    assert answer.status == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"], error["type"]) == ("context_length_exceeded", "messages", "invalid_request_error")


def test_a_providers_limit_is_told_with_its_wait(headgate):
    answer = headgate.client.chat("sim-chat?status=429&retry_after=3")
    assert answer.status == 429 and answer.header("retry-after") == "3"


def test_a_redirect_is_not_followed(headgate):
    answer = headgate.client.chat("sim-chat?redirect=1")
    assert answer.status == 502 and answer.json()["error"]["code"] == "upstream_error"


def test_a_redirect_costs_nothing(headgate, provider):
    provider.answer = http_answer("", status="301 Moved Permanently", extra="Location: https://elsewhere.example/\r\n")
    for stream in (False, True):
        answer = headgate.client.chat("own", stream=stream)
        assert answer.status == 502
        row = ledger_row(headgate, answer.request_id)
        assert row["settled_by"] == "none" and row["input_tokens"] == 0
        assert attempts_of(headgate, answer.request_id)[0]["status"] == 301


@pytest.mark.parametrize("content_type", ["application/json; x=" + "y" * 65200, "application/json\rX-Injected: 1"])
def test_a_providers_content_type_that_does_not_fit_our_head_is_replaced(headgate, provider, content_type):
    provider.answer = http_answer(ANSWER, content_type=content_type)
    answer = headgate.client.chat("own")
    assert answer.status == 200 and answer.header("content-type") == "application/json" and not answer.header("x-injected")


def test_an_html_page_is_not_an_answer(headgate, provider):
    provider.answer = http_answer("<html>Welcome</html>", content_type="text/html")
    answer = headgate.client.chat("own")
    assert answer.status == 502 and b"<html>" not in answer.body


def test_nobody_listening_is_503(headgate, provider):
    provider.close()
    answer = headgate.client.chat("own")
    assert answer.status in (502, 503)
    assert answer.json()["error"]["code"] == "upstream_unavailable"


def test_a_silent_provider_ends_at_the_callers_deadline(headgate):
    begun = time.monotonic()
    answer = headgate.client.chat("sim-chat?silent=1", headers={"X-Request-Timeout-Ms": "1000"})
    assert answer.status == 504 and answer.json()["error"]["code"] == "upstream_timeout"
    assert 0.9 < time.monotonic() - begun < 8


def test_a_stream_is_kept_alive_while_the_provider_thinks(headgate):
    stream = headgate.client.stream("sim-chat?tokens=2&first_token_ms=16500", timeout=60)
    begun, comments, events = time.monotonic(), [], []
    for line in stream.lines():
        if line.startswith(":"):
            comments.append(time.monotonic() - begun)
        elif line.startswith("data:"):
            events.append(line[5:].strip())
    assert events[-1] == "[DONE]"
    assert comments, "no comment in 16 s of silence"


# --- which models ------------------------------------------------------------------------------------------------------------------

def test_a_wildcard_lists_what_the_provider_lists_and_it_matches(headgate):
    ids = [m["id"] for m in headgate.client.get("/v1/models").json()["data"]]
    assert "sim-chat" in ids and "sim-embed" in ids
    assert not [i for i in ids if i.endswith("*")]


def test_one_model_by_its_name_whatever_is_in_it(headgate, provider):
    headgate.ctl("model", "add", "org/model:v1", "--target", "own=x")
    try:
        for path in ("/v1/models/org/model:v1", "/v1/models/org%2Fmodel%3Av1"):
            answer = headgate.client.get(path)
            assert answer.status == 200 and answer.json()["id"] == "org/model:v1"
    finally:
        headgate.ctl("model", "remove", "org/model:v1")
    assert headgate.client.get("/v1/models/no-such-model").status == 404


def test_a_provider_that_cannot_be_asked_is_not_an_unknown_model(headgate, provider):
    headgate.ctl("model", "add", "elsewhere-*", "--target", "own")
    try:
        provider.close()
        answer = headgate.client.get("/v1/models/elsewhere-1")
        assert answer.status in (502, 503), answer
        assert "sim-chat" in [m["id"] for m in headgate.client.get("/v1/models").json()["data"]]
    finally:
        headgate.ctl("model", "remove", "elsewhere-*")


def test_an_unknown_model_is_404_in_the_dialect(headgate):
    answer = headgate.client.chat("no-such-model")
    assert answer.status == 404
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert ledger_row(headgate, answer.request_id)["status"] == 404


def test_the_longest_name_wins(headgate, provider):
    provider.answer = http_answer(ANSWER)
    headgate.ctl("model", "add", "sim-chat-special*", "--target", "own=special")
    try:
        assert headgate.client.chat("sim-chat-special-1").json()["model"] == "upstream-name-2026"
        assert json.loads(provider.calls[-1][1])["model"] == "special"
        assert headgate.client.chat("sim-chat").json()["model"].startswith("sim-chat")
    finally:
        headgate.ctl("model", "remove", "sim-chat-special*")


# --- the front's word -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("body, place", [
    ('{"model":"sim-chat"}', "messages"),
    ('{"messages":[{"role":"user","content":"x"}]}', "model"),
    ('{"model":"sim-chat","model":"own","messages":[{"role":"user","content":"x"}]}', "model"),
    ('{"model":"sim-chat","messages":[{"role":"user","content":5}]}', "messages[0].content"),
    ('{"model":"sim-chat","messages":[],"stream":"yes"}', None),
])
def test_a_wrong_body_names_the_place(headgate, body, place):
    answer = headgate.client.post("/v1/chat/completions", body, headers={"Content-Type": "application/json"})
    assert answer.status == 400
    if place:
        assert answer.json()["error"]["param"] == place


def test_broken_json_tells_line_and_column(headgate):
    answer = headgate.client.post("/v1/chat/completions", '{"model": "sim-chat",\n "messages": [}', headers={"Content-Type": "application/json"})
    assert answer.status == 400
    assert "line 2" in answer.json()["error"]["message"] and "column" in answer.json()["error"]["message"]


@pytest.mark.parametrize("headers, body, status, code", [
    ({"Content-Type": "text/plain"}, "{}", 415, "unsupported_media_type"),
    ({"Content-Type": "application/json"}, "", 400, "invalid_json"),
    ({"Content-Type": "application/json", "x-request-timeout-ms": "soon"}, "{}", 400, "invalid_value"),
], ids=["type", "empty", "deadline"])
def test_a_call_refused_before_the_road_has_its_row_and_costs_nothing(headgate, headers, body, status, code):
    answer = headgate.client.request("POST", "/v1/chat/completions", body=body, headers=headers)
    assert answer.status == status, answer
    row = headgate.request(answer.request_id)
    assert (row["status"], row["error_code"], row["settled_by"], row["usage"]["input_tokens"]) == (status, code, "none", 0), row
    assert row["endpoint"] == "/v1/chat/completions" and float(row["cost"]["usd"]) == 0 and row["attempts"] == [], row


def test_not_json_is_415_and_the_wrong_method_405(headgate):
    answer = headgate.client.post("/v1/chat/completions", "x=1", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status == 415 and "application/json" in answer.json()["error"]["message"]
    answer = headgate.client.get("/v1/chat/completions")
    assert answer.status == 405 and answer.header("allow") == "POST"
    answer = headgate.client.get("/v1/nothing")
    assert answer.status == 404 and answer.json()["error"]["code"] == "not_found"


def test_keys_are_told_apart_from_no_keys(headgate):
    for headers, status in ((None, 200), ({"Authorization": None, "x-api-key": headgate.client.key}, 200), ({"Authorization": None}, 401),
                            ({"Authorization": "Bearer hg_wrong"}, 401), ({"Authorization": "Basic abc"}, 401), ({"x-api-key": "another-key-of-mine"}, 400)):
        answer = headgate.client.get("/v1/models", headers=headers)
        assert answer.status == status, (headers, answer)
        if status == 401:
            assert answer.header("www-authenticate") == "Bearer"


def test_an_anthropic_path_answers_in_its_dialect(headgate):
    answer = headgate.client.post("/v1/messages", {"model": "x"}, headers={"anthropic-version": "2023-06-01"})
    assert answer.status == 404 and answer.json()["type"] == "error" and answer.header("request-id").startswith("req_")


def test_f66_a_missing_key_hints_at_the_web_server_in_the_log(headgate):
    answer = headgate.client.get("/v1/models", headers={"Authorization": None})
    assert answer.status == 401
    line = wait_for(lambda: [l for l in (headgate.log("web.log") + headgate.log("app.log")).splitlines() if answer.request_id in l])[0]
    assert "Authorization header not forwarded" in line


def test_every_answer_tells_its_id_its_stages_and_may_not_be_stored(headgate):
    answer = headgate.client.chat()
    assert re.fullmatch(r"req_[0-9a-f-]{36}", answer.request_id)
    assert answer.header("cache-control") == "no-store" and answer.header("x-content-type-options") == "nosniff"
    stages = {part.split(";")[0].strip() for part in answer.header("server-timing").split(",")}
    assert {"auth", "decode", "route", "upstream", "settle"} <= stages


def test_health_tells_each_dependency(headgate):
    for path in ("/health/live", "/health/ready", "/health/startup"):
        answer = headgate.client.get(path, headers={"Authorization": None})
        assert answer.status == 200 and answer.json()["status"] == "ok", answer
    assert set(headgate.client.get("/health/ready").json()["dependencies"]) == {"postgresql", "schema", "ledger", "memcached"}


# --- the ledger, read -------------------------------------------------------------------------------------------------------------------

def test_requests_are_paged_newest_first(headgate):
    made = [headgate.client.chat().request_id for _ in range(5)]
    ledger_row(headgate, made[-1])
    page = headgate.client.get("/v1/requests?limit=3").json()
    assert [r["id"] for r in page["data"]] == made[:1:-1] and page["has_more"] is True
    rest = headgate.client.get(f"/v1/requests?limit=2&after={page['last_id']}").json()
    assert [r["id"] for r in rest["data"]] == [made[1], made[0]]


def test_usage_sums_what_the_ledger_has(headgate):
    answer = headgate.client.chat("sim-chat?tokens=9")
    ledger_row(headgate, answer.request_id)
    total = headgate.client.get("/v1/usage?group_by=model&time_zone=Asia/Kathmandu").json()
    rows = headgate.sql("select count(*) n, sum(input_tokens) i, sum(output_tokens) o, sum(cost_nusd) c from headgate.requests where user_id = "
                        "(select user_id from headgate.requests where id = :'id'::uuid)", id=answer.request_id.removeprefix("req_"))[0]
    assert total["total"]["requests"] == rows["n"]
    assert total["total"]["input_tokens"] == rows["i"] and total["total"]["output_tokens"] == rows["o"]
    assert total["total"]["cost_usd"] == f"{rows['c'] // 10**9}.{rows['c'] % 10**9:09d}"
    assert sum(g["requests"] for g in total["data"]) == rows["n"]


def test_bad_queries_name_the_parameter(headgate):
    for query, param in (("limit=0", "limit"), ("limit=x", "limit"), ("after=key_1", "after"), ("from=yesterday", "from")):
        answer = headgate.client.get(f"/v1/requests?{query}")
        assert answer.status == 400 and answer.json()["error"]["param"] == param, answer
    answer = headgate.client.get("/v1/usage?time_zone=Mars/Olympus")
    assert answer.status == 400 and answer.json()["error"]["param"] == "time_zone"
    assert headgate.client.get("/v1/requests/req_01890000-0000-7000-8000-000000000000").status == 404
    assert headgate.client.get("/v1/requests/key_01890000-0000-7000-8000-000000000000").status == 400
