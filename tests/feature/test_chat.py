# SPDX-License-Identifier: Apache-2.0
"""Model calls through everything: web server, gate, PostgreSQL, simulator, and the ledger behind them."""
import base64
import json
import struct
import threading

import pytest

from client import Client
from stack import wait_for


def text_of(answer):
    return answer.json()["choices"][0]["message"]["content"]


def deltas(events):
    chunks = [json.loads(e) for e in events if e != "[DONE]"]
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c.get("choices"))


# --- what works ---------------------------------------------------------------------------------------------------------

def test_a_chat_completion_comes_back_with_its_usage(gateway):
    answer = gateway.client.chat(content="Say something about rivers.")
    assert answer.status == 200, answer
    body = answer.json()
    assert body["object"] == "chat.completion" and body["model"] == "sim-chat"
    assert body["choices"][0]["message"]["role"] == "assistant" and text_of(answer)
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    assert answer.request_id.startswith("req_")
    assert answer.header("cache-control") == "no-store" and answer.header("x-content-type-options") == "nosniff"
    assert answer.header("server-timing")


def test_a_streamed_completion_is_the_same_text_and_ends_with_done(gateway):
    whole = text_of(gateway.client.chat(content="Say something about rivers."))
    stream = gateway.client.stream(content="Say something about rivers.")
    assert stream.status == 200 and stream.header("content-type").startswith("text/event-stream")
    events = list(stream.events())
    assert events[-1] == "[DONE]" and deltas(events) == whole
    chunks = [json.loads(e) for e in events[:-1]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert len({c["id"] for c in chunks}) == 1
    assert all(c.get("usage") is None and c["choices"] for c in chunks), "usage was not asked for"


def test_usage_comes_at_the_end_of_a_stream_for_those_who_ask(headgate):
    stream = headgate.client.stream(stream_options={"include_usage": True})
    *chunks, last = [json.loads(e) for e in stream.events() if e != "[DONE]"]
    assert last["choices"] == [] and last["usage"]["completion_tokens"] > 0
    assert all(c["usage"] is None for c in chunks)


def test_every_call_stands_in_the_ledger_with_tokens_and_cost(gateway):
    answer = gateway.client.chat(model="sim-chat?tokens=120")
    usage = answer.json()["usage"]
    assert usage["completion_tokens"] == 120
    row = gateway.request(answer.request_id)
    assert row["status"] == 200 and row["model_requested"] == "sim-chat?tokens=120" and row["provider"] == "sim"
    assert row["usage"]["input_tokens"] == usage["prompt_tokens"] and row["usage"]["output_tokens"] == 120
    nusd = usage["prompt_tokens"] * 1000 + 120 * 2000
    assert row["cost"]["usd"] == f"0.{nusd:09d}"
    assert row["settled_by"] == "provider_usage" and len(row["attempts"]) == 1


def test_a_stream_stands_in_the_ledger_too_though_usage_was_not_asked_for(gateway):
    stream = gateway.client.stream(model="sim-chat?tokens=37")
    assert list(stream.events())[-1] == "[DONE]"
    row = gateway.request(stream.request_id)
    assert row["status"] == 200 and row["usage"]["output_tokens"] == 37 and row["settled_by"] == "provider_usage"


def test_the_simulator_and_the_ledger_count_the_same(headgate):
    model = "sim-chat?tokens=21&tag=counted"
    ids = [headgate.client.chat(model=model).request_id for _ in range(5)]
    for _ in range(5):
        stream = headgate.client.stream(model=model)
        assert list(stream.events())[-1] == "[DONE]"
        ids.append(stream.request_id)
    assert wait_for(lambda: len(headgate.sim_calls(model)) == 10)
    seen = {c["attempt_id"]: c for c in headgate.sim_calls(model)}
    for request_id in ids:
        row = headgate.request(request_id)
        call = seen[row["attempts"][0]["id"]]
        assert call["input_tokens"] == row["usage"]["input_tokens"]


WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}}}


def test_a_tool_is_called_and_its_result_ends_the_loop(headgate):
    ask = {"model": "sim-chat?tool=get_weather&parallel=2", "tools": [WEATHER], "messages": [{"role": "user", "content": "Weather?"}]}
    first = headgate.client.post("/v1/chat/completions", ask).json()["choices"][0]
    calls = first["message"]["tool_calls"]
    assert first["finish_reason"] == "tool_calls" and len(calls) == 2
    assert "city" in json.loads(calls[0]["function"]["arguments"])
    ask["messages"] += [first["message"]] + [{"role": "tool", "tool_call_id": c["id"], "content": "sunny"} for c in calls]
    assert headgate.client.post("/v1/chat/completions", ask).json()["choices"][0]["finish_reason"] == "stop"


def test_streamed_tool_arguments_join_to_json(headgate):
    stream = headgate.client.stream(model="sim-chat?tool=get_weather&parallel=2", tools=[WEATHER])
    arguments = {}
    for event in stream.events():
        if event == "[DONE]":
            break
        for choice in json.loads(event)["choices"]:
            for call in choice["delta"].get("tool_calls") or []:
                arguments[call["index"]] = arguments.get(call["index"], "") + (call["function"].get("arguments") or "")
    assert sorted(arguments) == [0, 1] and all("city" in json.loads(a) for a in arguments.values())


def test_structured_output_conforms_to_its_schema(headgate):
    schema = {"type": "object", "properties": {"answer": {"type": "integer"}, "words": {"type": "array", "items": {"type": "string"}}},
              "required": ["answer", "words"], "additionalProperties": False}
    answer = headgate.client.chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}})
    value = json.loads(text_of(answer))
    assert set(value) == {"answer", "words"} and isinstance(value["answer"], int)


def test_images_pass(headgate):
    picture = "data:image/png;base64," + base64.b64encode(b"\x89PNG" + bytes(2000)).decode()
    answer = headgate.client.post("/v1/chat/completions", {"model": "sim-chat", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": picture}}]}]})
    assert answer.status == 200 and answer.json()["usage"]["prompt_tokens"] > 85


def test_completions_streamed_and_not(headgate):
    answer = headgate.client.post("/v1/completions", {"model": "sim-chat", "prompt": "Once upon", "max_tokens": 5})
    assert answer.status == 200 and answer.json()["object"] == "text_completion"
    answer = headgate.client.post("/v1/completions", {"model": "sim-chat", "prompt": "Once upon", "max_tokens": 5, "stream": True})
    assert answer.events()[-1] == "[DONE]"


def test_embeddings_as_numbers_and_as_base64_are_the_same(gateway):
    ask = {"model": "sim-embed", "input": ["a river", "a brook"], "dimensions": 16}
    numbers = gateway.client.post("/v1/embeddings", ask).json()["data"]
    packed = gateway.client.post("/v1/embeddings", {**ask, "encoding_format": "base64"}).json()["data"]
    assert [d["index"] for d in numbers] == [0, 1] and len(numbers[0]["embedding"]) == 16
    assert struct.unpack("<16f", base64.b64decode(packed[1]["embedding"])) == pytest.approx(numbers[1]["embedding"], abs=1e-6)


def test_embeddings_have_their_own_price(headgate):
    answer = headgate.client.post("/v1/embeddings", {"model": "sim-embed", "input": "ten words " * 10})
    tokens = answer.json()["usage"]["prompt_tokens"]
    assert headgate.request(answer.request_id)["cost"]["usd"] == f"0.{tokens * 100:09d}"


def test_unknown_fields_of_the_request_reach_the_provider_and_those_of_the_answer_come_back(headgate):
    answer = headgate.client.chat(reasoning_effort="low", verbosity="high", some_new_field={"x": [1, 2.50, None]})
    assert answer.status == 200


def test_models_are_those_the_provider_has_under_the_wildcard(gateway):
    listed = gateway.client.get("/v1/models").json()
    assert listed["object"] == "list" and {"sim-chat", "sim-embed"} <= {m["id"] for m in listed["data"]}
    one = gateway.client.get("/v1/models/sim-chat").json()
    assert one["id"] == "sim-chat" and one["object"] == "model"
    assert gateway.client.get("/v1/models/no%2Fsuch%3Amodel").status == 404


def test_json_is_compressed_for_those_who_accept_it(headgate):
    answer = headgate.client.chat(model="sim-chat?body_bytes=20000", headers={"Accept-Encoding": "gzip"})
    assert answer.header("content-encoding") == "gzip" and len(answer.body) < 15000
    assert headgate.client.chat(model="sim-chat?body_bytes=20000").header("content-encoding") is None


def test_forty_callers_at_once_are_all_answered_and_all_counted(gateway):
    model = f"sim-chat?tokens=10&latency_ms=100&tag=forty-{gateway.web}"
    ids = []
    def one():
        answer = gateway.client.chat(model=model)
        ids.append(answer.request_id if answer.status == 200 else answer)
    threads = [threading.Thread(target=one) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({i for i in ids if isinstance(i, str)}) == 40, ids
    assert all(gateway.request(i)["status"] == 200 for i in ids)


# --- what does not ------------------------------------------------------------------------------------------------------

def error_of(answer):
    assert answer.header("content-type").startswith("application/json"), answer
    error = answer.json()["error"]
    assert isinstance(error["message"], str) and error["message"] and "type" in error and "code" in error
    return error


def test_an_unknown_model_is_404_model_not_found(gateway):
    answer = gateway.client.chat(model="no-such-model")
    assert answer.status == 404 and error_of(answer)["code"] == "model_not_found"


@pytest.mark.parametrize("key", [None, "hg_wrong", "x" * 40, "hg_" + "A" * 38])
def test_without_a_good_key_it_is_401(headgate, key):
    answer = Client("127.0.0.1", headgate.port, key).chat()
    assert answer.status == 401 and answer.header("www-authenticate").startswith("Bearer")
    error_of(answer)


def test_x_api_key_works_too_but_not_two_different_keys(headgate):
    key = headgate.client.key
    assert headgate.client.chat(headers={"Authorization": None, "x-api-key": key}).status == 200
    assert headgate.client.chat(headers={"x-api-key": "something-else-altogether"}).status in (400, 401)


@pytest.mark.parametrize("body, param", [
    (b'{"model": "sim-chat", "messages": [', None), (b"", None), (b"[]", None), (b'"x"', None),
    (b'{"messages": []}', "model"), (b'{"model": 3, "messages": []}', "model"),
    (b'{"model": "sim-chat", "model": "sim-other", "messages": []}', None),
    (b'{"model": "sim-chat", "messages": [' + b"[" * 100 + b"]" * 100 + b"]}", None), (b"\xff\xfe", None),
])
def test_a_body_that_makes_no_sense_is_400_and_the_message_says_where(headgate, body, param):
    answer = headgate.client.post("/v1/chat/completions", body, headers={"Content-Type": "application/json"})
    assert answer.status == 400, answer
    error = error_of(answer)
    assert error["type"] == "invalid_request_error"
    if param:
        assert error["param"] == param


def test_paths_and_methods_that_are_not_there(headgate):
    answer = headgate.client.get("/v1/nothing/here")
    assert answer.status == 404
    error_of(answer)
    answer = headgate.client.get("/v1/chat/completions")
    assert answer.status == 405 and "POST" in answer.header("allow")
    error_of(answer)


def test_a_body_that_is_not_json_by_its_type_is_415(headgate):
    answer = headgate.client.post("/v1/chat/completions", b"<x/>", headers={"Content-Type": "application/xml"})
    assert answer.status == 415
    error_of(answer)


@pytest.mark.parametrize("status, ours", [(400, 400), (404, 404), (422, 422), (429, 429), (401, 502), (403, 502)])
def test_a_providers_refusal_is_relayed_but_its_401_is_not_the_callers(headgate, status, ours):
    answer = headgate.client.chat(model=f"sim-chat?status={status}&code=some_code")
    assert answer.status == ours, answer
    error = error_of(answer)
    if ours == status:
        assert error["code"] == "some_code"
    assert headgate.request(answer.request_id)["status"] == ours


def test_a_provider_that_fails_is_5xx_in_the_callers_dialect(headgate):
    for behaviour in ("status=500", "status=503&retry_after=1", "drop=1", "garbage=1", "content_type=html", "redirect=1"):
        answer = headgate.client.chat(model=f"sim-chat?{behaviour}")
        assert 500 <= answer.status < 600, (behaviour, answer)
        error_of(answer)


def test_a_stream_that_is_cut_ends_with_an_error_and_never_with_done(gateway):
    for behaviour in ("cut_after=3", "close_after=3", "reset_after=3", "error_after=3"):
        stream = gateway.client.stream(model=f"sim-chat?tokens=50&{behaviour}")
        events = list(stream.events())
        assert "[DONE]" not in events, behaviour
        assert "error" in json.loads(events[-1]), (behaviour, events)
        row = gateway.request(stream.request_id)
        assert row["settled_by"] in ("counted", "estimated") and row["usage"]["output_tokens"] >= 1, behaviour


def test_a_revoked_key_stops_within_a_second(headgate):
    key = headgate.ctl("key", "create", "--organization", "Quickstart", "--name", "short-lived", "--scope", "write", "--quiet").stdout.strip()
    client = Client("127.0.0.1", headgate.port, key)
    assert client.chat().status == 200
    headgate.ctl("key", "revoke", key_id(headgate, "short-lived"))
    assert wait_for(lambda: client.chat().status == 401, 1, every=0.02)


def key_id(stack, name):
    return next(k["id"] for k in json.loads(stack.ctl("--json", "key", "list").stdout)["data"] if k["name"] == name)
