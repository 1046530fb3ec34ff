# SPDX-License-Identifier: Apache-2.0
"""The simulated provider, over real sockets. Each parameter of a model name has a test; answers are held against the
schemas of OpenAI's own description where it is at hand ($HEADGATE_SHARED/openai/openapi.yaml)."""
import base64
import http.client
import json
import math
import os
import random
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest

TOKEN = re.compile(r"[ ]?(?:[A-Za-z]{1,8}|[0-9]{1,3}|[^A-Za-z0-9 ])|[ ]")
PROMPT = "Tell me about gateways, please."
ROOT = Path(os.environ.get("HEADGATE_SRCDIR", Path(__file__).resolve().parents[2]))


def tokens(text):
    return len(TOKEN.findall(text))


def program():
    places = [os.environ.get("HEADGATE_BINDIR", ""), os.path.join(os.environ.get("HEADGATE_BUILDDIR", "."), "src/main")]
    for place in places:
        if place and os.access(os.path.join(place, "headgate-sim"), os.X_OK):
            return os.path.join(place, "headgate-sim")
    raise RuntimeError(f"headgate-sim is not in {places}: set HEADGATE_BUILDDIR or HEADGATE_BINDIR")


class Sim:
    """One running simulator and the ways to talk to it."""

    def __init__(self, log, *options):
        self.log_path = log
        command = [program(), "--port", "0", "--log", str(log), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("listening on 127.0.0.1:"), line
        self.port = int(line.rsplit(":", 1)[1])

    def stop(self):
        self.process.terminate()
        return self.process.wait(10)

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def raw(self, data, shut=False):
        """Send bytes, return all that comes back until the end."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as s:
            s.sendall(data)
            if shut:
                s.shutdown(socket.SHUT_WR)
            got = b""
            while piece := s.recv(65536):
                got += piece
            return got

    def request(self, method, path, body=None, **headers):
        connection = self.connect()
        if isinstance(body, dict):
            body = json.dumps(body)
        headers = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.text = response.read()
        connection.close()
        return response

    def json(self, path, body, **headers):
        response = self.request("POST", path, body, **headers)
        assert response.status == 200, response.text
        return json.loads(response.text)

    def chat(self, model="sim-chat", **members):
        return self.json("/v1/chat/completions", chat(model, **members))

    def post_chat(self, model="sim-chat", **members):
        return self.request("POST", "/v1/chat/completions", chat(model, **members))

    def stream(self, model="sim-chat", path="/v1/chat/completions", **members):
        """The data of each event, and how the stream ended: done, eof (whole, but not done), closed or reset."""
        body = {"prompt": PROMPT} if path == "/v1/completions" else {"messages": [{"role": "user", "content": PROMPT}]}
        connection = self.connect()
        connection.request("POST", path, json.dumps({"model": model, "stream": True, **body, **members}))
        response = connection.getresponse()
        assert response.status == 200
        return read_events(response)

    def log(self, want=1):
        """The lines of the log, once there are `want` of them."""
        for _ in range(200):
            lines = self.log_path.read_text().splitlines()
            if len(lines) >= want:
                return [json.loads(line) for line in lines]
            time.sleep(0.02)
        raise AssertionError(f"{len(lines)} lines in the log, wanted {want}")


def chat(model, **members):
    return {"model": model, "messages": [{"role": "user", "content": PROMPT}], **members}


def read_events(response):
    text, end = b"", "eof"
    try:
        while piece := response.read1(65536):
            text += piece
    except http.client.IncompleteRead as gone:
        text, end = text + gone.partial, "closed"
    except ConnectionResetError:
        end = "reset"
    events = [e[len("data: "):] for e in text.decode().split("\n\n") if e.startswith("data: ")]
    if events and events[-1] == "[DONE]":
        return events[:-1], "done"
    return events, end


def joined(events, choice=0):
    deltas = [c["delta"] for e in events for c in json.loads(e)["choices"] if c["index"] == choice]
    return "".join(d.get("content") or "" for d in deltas)


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    running = Sim(tmp_path_factory.mktemp("sim") / "sim.jsonl")
    yield running
    assert running.process.poll() is None, "the simulator died"
    assert running.stop() == 0


@pytest.fixture
def fresh(tmp_path):
    started = []

    def start(*options):
        started.append(Sim(tmp_path / "sim.jsonl", *options))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            assert running.stop() == 0


# ---- OpenAI's schemas ----


CHAT_CASES = {
    "plain": {},
    "two choices": {"n": 2},
    "cut": {"max_completion_tokens": 3},
    "tool": {"model": "sim-chat?tool=f&parallel=2"},
    "schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}},
    "reasoning": {"model": "sim-chat?reasoning=7&cached=3"},
    "tier": {"service_tier": "flex"},
}


@pytest.mark.parametrize("case", CHAT_CASES)
def test_a_chat_answer_is_what_openai_describes(sim, valid, case):
    valid("CreateChatCompletionResponse", sim.chat(**{"model": "sim-chat", **CHAT_CASES[case]}))


@pytest.mark.parametrize("case", CHAT_CASES)
@pytest.mark.parametrize("usage", [True, False])
def test_every_chunk_is_what_openai_describes(sim, valid, case, usage):
    members = {"model": "sim-chat", "stream_options": {"include_usage": usage}, **CHAT_CASES[case]}
    events, end = sim.stream(**members)
    assert end == "done"
    for event in events:
        valid("CreateChatCompletionStreamResponse", json.loads(event))


def test_other_answers_are_what_openai_describes(sim, valid):
    valid("CreateCompletionResponse", sim.json("/v1/completions", {"model": "sim-chat", "prompt": PROMPT}))
    valid("CreateEmbeddingResponse", sim.json("/v1/embeddings", {"model": "sim-embed", "input": [PROMPT, "b"]}))
    valid("ListModelsResponse", json.loads(sim.request("GET", "/v1/models").text))
    valid("Model", json.loads(sim.request("GET", "/v1/models/sim-chat").text))
    for event in sim.stream(path="/v1/completions", stream_options={"include_usage": True})[0]:
        valid("CreateCompletionChunk", json.loads(event))
    for status in (400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 504, 529):
        valid("ErrorResponse", json.loads(sim.post_chat(f"sim-chat?status={status}").text))


# ---- chat ----


def test_an_answer_counts_its_tokens_exactly(sim):
    answer = sim.chat()
    usage, message = answer["usage"], answer["choices"][0]["message"]
    assert message["role"] == "assistant" and message["refusal"] is None
    assert usage["completion_tokens"] == tokens(message["content"]) >= 12
    assert usage["prompt_tokens"] == 3 + 3 + tokens(PROMPT)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 0
    assert answer["choices"][0]["finish_reason"] == "stop" and answer["choices"][0]["logprobs"] is None
    assert answer["service_tier"] == "default" and answer["system_fingerprint"]


def test_parts_names_images_and_tool_results_are_counted(sim):
    tool_call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "What is this"},
                                                     {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]},
        {"role": "assistant", "content": None, "tool_calls": [tool_call]},
        {"role": "tool", "tool_call_id": "c", "content": "ünïcode 12345"},
    ]
    want = 3 + 4 * 3 + 85 + sum(map(tokens, ["Be brief.", "ann", "What is this", "look", '{"a":1}', "ünïcode 12345"]))
    assert sim.chat(messages=messages)["usage"]["prompt_tokens"] == want


def test_the_same_prompt_gives_the_same_answer_and_a_seed_another(sim):
    def text(**members):
        return sim.chat("sim-chat?tokens=80", **members)["choices"][0]["message"]["content"]

    assert text() == text()
    assert text(seed=1) == text(seed=1) != text(seed=2)
    assert "gateways" in text()


def test_ids_differ_and_choices_too(sim):
    answer = sim.chat("sim-chat?tokens=40", n=8)
    assert len({c["message"]["content"] for c in answer["choices"]}) == 8
    assert [c["index"] for c in answer["choices"]] == list(range(8))
    assert answer["id"] != sim.chat()["id"] and answer["id"].startswith("chatcmpl-")
    assert sim.post_chat(n=9).status == 400


def test_the_token_limit_cuts(sim):
    for name in ("max_tokens", "max_completion_tokens"):
        choice = sim.chat("sim-chat?tokens=50", **{name: 7})["choices"][0]
        assert (tokens(choice["message"]["content"]), choice["finish_reason"]) == (7, "length")
    choice = sim.chat("sim-chat?tokens=50", max_tokens=50)["choices"][0]
    assert (tokens(choice["message"]["content"]), choice["finish_reason"]) == (50, "stop")


def test_stop_texts_stop(sim):
    whole = sim.chat("sim-chat?tokens=50")["choices"][0]["message"]["content"]
    word = whole.split()[4]
    for stop in (word, ["never in there", word]):
        choice = sim.chat("sim-chat?tokens=50", stop=stop)["choices"][0]
        assert choice["message"]["content"] == whole[:whole.index(word)]
        assert choice["finish_reason"] == "stop"


TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "required": ["city"], "additionalProperties": False,
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7},
                   "unit": {"enum": ["celsius", "kelvin"]}}}}}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_forced_tool_is_called(sim, choice):
    answer = sim.chat(tools=[TOOL], tool_choice=choice)
    message = answer["choices"][0]["message"]
    assert answer["choices"][0]["finish_reason"] == "tool_calls" and message["content"] is None
    call, = message["tool_calls"]
    arguments = json.loads(call["function"]["arguments"])
    assert call["function"]["name"] == "get_weather" and 1 <= arguments["days"] <= 7 and arguments["unit"] in ("celsius", "kelvin")
    assert answer["usage"]["completion_tokens"] == tokens("get_weather") + tokens(call["function"]["arguments"])


def test_tools_that_are_only_offered_are_not_called(sim):
    assert sim.chat(tools=[TOOL])["choices"][0]["finish_reason"] == "stop"
    assert sim.chat("sim-chat?tool=get_weather", tools=[TOOL], tool_choice="none")["choices"][0]["finish_reason"] == "stop"


STRUCTURES = [
    {"type": "object", "properties": {"steps": {"type": "array", "items": {"type": "object", "properties": {
        "explanation": {"type": "string"}, "output": {"type": "string"}}, "required": ["explanation", "output"],
        "additionalProperties": False}}, "final": {"type": "string"}}, "required": ["steps", "final"], "additionalProperties": False},
    {"type": "object", "properties": {"root": {"$ref": "#/$defs/node"}}, "required": ["root"], "$defs": {"node": {
        "type": "object", "properties": {"value": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, "required": ["value", "next"]}}},
    {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}, "at": {"type": "string", "format": "date-time"}},
     "required": ["kids"]},
    {"type": "object", "properties": {"a": {"type": ["string", "null"], "minLength": 30, "maxLength": 40}, "b": {"const": {"x": [1, None]}},
     "c": {"type": "array", "items": {"enum": ["p", "q", "r"]}, "minItems": 3, "uniqueItems": True}, "d": {"type": "boolean"},
     "e": {"type": "integer", "multipleOf": 5, "minimum": 11, "maximum": 19}, "f": {"type": "array", "prefixItems": [
         {"type": "integer"}, {"type": "string"}], "items": False}}, "required": ["a", "b", "c", "d", "e", "f"]},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
               {"type": "object", "properties": {"b": {"type": "string", "format": "uuid"}}, "required": ["b"]}]},
    {"type": "object", "properties": {"x": {"oneOf": [{"type": "integer", "maximum": -1}, {"type": "string"}]}}, "required": ["x"]},
]


@pytest.mark.parametrize("schema", STRUCTURES)
def test_structured_output_conforms_to_its_schema(sim, schema):
    jsonschema = pytest.importorskip("jsonschema")
    form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    for seed in range(20):
        answer = sim.chat(response_format=form, seed=seed)
        jsonschema.Draft202012Validator(schema).validate(json.loads(answer["choices"][0]["message"]["content"]))


def test_a_json_object_is_one(sim):
    assert isinstance(json.loads(sim.chat(response_format={"type": "json_object"})["choices"][0]["message"]["content"]), dict)


@pytest.mark.parametrize("body, param", [
    (b"", None), (b"{", None), (b"[]", None), (b"\xff", None), ({}, "model"), ({"model": 1}, "model"),
    ({"model": "sim-chat"}, "messages"), ({"model": "sim-chat", "messages": []}, "messages"),
    (chat("sim-chat", messages=[{"role": "user", "content": 3}]), "messages[0].content"),
    (chat("sim-chat", messages=[{"role": "pirate", "content": "x"}]), "messages[0].role"),
    (chat("sim-chat", messages=[{"content": "x"}]), "messages[0]"),
    (chat("sim-chat", messages=[{"role": "user", "content": [{"type": "smell"}]}]), "messages[0].content[0].type"),
    (chat("sim-chat", stream="yes"), "stream"), (chat("sim-chat", max_tokens=0), "max_tokens"), (chat("sim-chat", n=1.5), "n"),
    (chat("sim-chat", stream_options={}), "stream_options"), (chat("sim-chat", tool_choice="required"), "tool_choice"),
    (chat("sim-chat", tools=[{"type": "function"}]), "tools[0]"), (chat("sim-chat", stop=[1]), "stop[0]"),
    (chat("sim-chat", response_format={"type": "xml"}), "response_format.type"), (chat("sim-chat?speed=9"), "model"),
    (chat("sim-chat?tokens=1000000&tag=big", n=8, messages=[{"role": "user", "content": "x"}]), None),
])
def test_what_is_wrong_is_refused_with_its_place(sim, body, param):
    response = sim.request("POST", "/v1/chat/completions", body)
    if body and not isinstance(body, bytes) and body.get("model", "") != "" and "big" in str(body["model"]):
        assert response.status == 200  # large, but allowed
        return
    assert response.status == 400
    error = json.loads(response.text)["error"]
    assert error["param"] == param and error["type"] == "invalid_request_error" and error["message"]


def test_unknown_models_and_parameters_are_named(sim):
    response = sim.post_chat("gpt-5")
    assert response.status == 404 and json.loads(response.text)["error"]["code"] == "model_not_found"
    response = sim.post_chat("sim-chat?speed=9")
    assert response.status == 400 and "`speed`" in json.loads(response.text)["error"]["message"]
    assert sim.chat("sim-mine")["model"] == "sim-mine"


# ---- streams ----


def test_a_stream_has_role_tokens_finish_and_done(sim):
    events, end = sim.stream("sim-chat?tokens=20")
    chunks = [json.loads(e) for e in events]
    assert end == "done" and len({(c["id"], c["created"]) for c in chunks}) == 1
    first, *middle, last = [c["choices"][0] for c in chunks]
    assert first["delta"]["role"] == "assistant" and first["finish_reason"] is None
    assert len(middle) == 20 and all(tokens(c["delta"]["content"]) == 1 for c in middle)
    assert last == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert all("usage" not in c for c in chunks)
    assert joined(events) == sim.chat("sim-chat?tokens=20", seed=None)["choices"][0]["message"]["content"]


def test_a_usage_chunk_comes_when_asked_for(sim):
    events, _ = sim.stream("sim-chat?tokens=5", stream_options={"include_usage": True})
    *others, last = [json.loads(e) for e in events]
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 5
    assert all(c["usage"] is None for c in others)


def test_choices_are_interleaved_in_a_stream(sim):
    events, end = sim.stream("sim-chat?tokens=10", n=3)
    whole = sim.chat("sim-chat?tokens=10", n=3)
    assert end == "done"
    for i in range(3):
        assert joined(events, i) == whole["choices"][i]["message"]["content"]


def test_parallel_tool_calls_stream_in_pieces_by_index(sim):
    events, end = sim.stream("sim-chat?tool=get_weather&parallel=2", tools=[TOOL])
    calls, order = {}, []
    for event in events:
        choice, = json.loads(event)["choices"]
        for piece in choice["delta"].get("tool_calls", []):
            call = calls.setdefault(piece["index"], {"arguments": ""})
            if "id" in piece:
                call.update(id=piece["id"], name=piece["function"]["name"], type=piece["type"])
            call["arguments"] += piece["function"]["arguments"]
            order.append(piece["index"])
    assert end == "done" and choice["finish_reason"] == "tool_calls"
    assert sorted(calls) == [0, 1] and calls[0]["id"] != calls[1]["id"]
    assert all(c["name"] == "get_weather" and "city" in json.loads(c["arguments"]) for c in calls.values())
    assert order[:6] == [0, 1, 0, 1, 0, 1]


def test_one_call_when_parallel_calls_are_forbidden_and_text_after_a_result(sim):
    answer = sim.chat("sim-chat?tool=get_weather&parallel=3", tools=[TOOL], parallel_tool_calls=False)
    call, = answer["choices"][0]["message"]["tool_calls"]
    messages = [{"role": "user", "content": "Weather?"}, {"role": "assistant", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": call["id"], "content": "rain"}]
    assert sim.chat("sim-chat?tool=get_weather", tools=[TOOL], messages=messages)["choices"][0]["finish_reason"] == "stop"


# ---- completions, embeddings, models ----


def test_completions_answer_each_prompt(sim):
    answer = sim.json("/v1/completions", {"model": "sim-chat?tokens=9", "prompt": ["One gateway", "Two providers"], "n": 2})
    assert [c["index"] for c in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"] | {"prompt_tokens_details": 0, "completion_tokens_details": 0} == {
        "prompt_tokens": 5, "completion_tokens": 36, "total_tokens": 41, "prompt_tokens_details": 0, "completion_tokens_details": 0}
    assert sim.json("/v1/completions", {"model": "sim-chat", "prompt": [1, 2, 3]})["usage"]["prompt_tokens"] == 3
    events, end = sim.stream("sim-chat?tokens=6", path="/v1/completions")
    assert end == "done" and tokens("".join(json.loads(e)["choices"][0]["text"] for e in events)) == 6


def embed(sim, text, **members):
    return [d["embedding"] for d in sim.json("/v1/embeddings", {"model": "sim-embed", "input": text, **members})["data"]]


def test_embeddings_are_unit_vectors_that_know_shared_words(sim):
    a, b, c = embed(sim, ["the cat sat on the mat", "a cat sat on a mat", "quarterly revenue grew strongly"])
    assert len(a) == 256 and math.isclose(sum(x * x for x in a), 1, rel_tol=1e-5)
    dot = lambda x, y: sum(p * q for p, q in zip(x, y))  # noqa: E731
    assert dot(a, b) > 0.4 > dot(a, c)
    assert embed(sim, "the cat sat on the mat")[0] == a


def test_base64_embeddings_carry_the_same_numbers(sim):
    floats, = embed(sim, PROMPT, dimensions=100)
    text, = embed(sim, PROMPT, dimensions=100, encoding_format="base64")
    unpacked = struct.unpack("<100f", base64.b64decode(text))
    assert all(math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-9) for x, y in zip(floats, unpacked))


def test_embeddings_count_texts_and_token_ids(sim):
    for given, want in ((PROMPT, tokens(PROMPT)), (["a b", "c"], 3), ([1, 2, 3], 3), ([[1, 2], [3, 4, 5]], 5)):
        usage = sim.json("/v1/embeddings", {"model": "sim-embed", "input": given})["usage"]
        assert usage == {"prompt_tokens": want, "total_tokens": want}
    for wrong in ([], [[]], 3, {"a": 1}, [1, "a"], None):
        assert sim.request("POST", "/v1/embeddings", {"model": "sim-embed", "input": wrong}).status == 400
    assert sim.request("POST", "/v1/embeddings", {"model": "sim-embed", "input": "a", "dimensions": 5000}).status == 400


def test_models_are_listed_and_shown(sim):
    assert [m["id"] for m in json.loads(sim.request("GET", "/v1/models").text)["data"]] == ["sim-chat", "sim-embed"]
    assert json.loads(sim.request("GET", "/v1/models/sim-chat%3Ftokens=3").text)["id"] == "sim-chat?tokens=3"
    assert sim.request("GET", "/v1/models/gpt-5").status == 404
    assert json.loads(sim.request("GET", "/health").text) == {"status": "ok"}


def test_wrong_paths_and_methods(sim):
    assert sim.request("GET", "/v1/nothing").status == 404
    response = sim.request("GET", "/v1/chat/completions")
    assert (response.status, response.getheader("allow")) == (405, "POST")
    assert sim.request("POST", "/v1/models", b"{}").getheader("allow") == "GET"


def test_answers_carry_the_headers_sdks_read(sim):
    response = sim.post_chat()
    assert response.getheader("x-request-id").startswith("req_") and response.getheader("openai-processing-ms").isdigit()
    assert response.getheader("content-type") == "application/json"
    connection = sim.connect()
    connection.request("POST", "/v1/chat/completions", json.dumps(chat("sim-chat", stream=True)))
    assert connection.getresponse().getheader("content-type") == "text/event-stream; charset=utf-8"
    connection.close()


# ---- pace and size ----


def timed(what):
    begun = time.monotonic()
    what()
    return time.monotonic() - begun


def test_first_token_ms_delays_the_first_byte(sim):
    assert 0.25 <= timed(lambda: sim.stream("sim-chat?first_token_ms=250&tokens=3")) < 1.5
    assert 0.25 <= timed(lambda: sim.chat("sim-chat?first_token_ms=250")) < 1.5


def test_latency_ms_delays_an_answer(sim):
    assert 0.25 <= timed(lambda: sim.chat("sim-chat?latency_ms=250&tokens_per_s=1&tokens=100")) < 1.5
    assert 0.25 <= timed(lambda: embed(sim, "x", model="sim-embed?latency_ms=250")) < 1.5
    assert 0.25 <= timed(lambda: sim.post_chat("sim-chat?latency_ms=250&status=500")) < 1.5


def test_tokens_per_s_sets_the_pace(sim):
    assert 0.38 <= timed(lambda: sim.stream("sim-chat?tokens_per_s=50&tokens=20")) < 1.5
    assert 0.38 <= timed(lambda: sim.chat("sim-chat?tokens_per_s=50&tokens=20")) < 1.5
    assert timed(lambda: sim.chat("sim-chat?tokens=10000")) < 1.5


@pytest.mark.parametrize("count", [0, 1, 2, 17, 1000])
def test_tokens_sets_the_size(sim, count):
    answer = sim.chat(f"sim-chat?tokens={count}")
    assert answer["usage"]["completion_tokens"] == tokens(answer["choices"][0]["message"]["content"]) == count
    events, end = sim.stream(f"sim-chat?tokens={count}")
    assert end == "done" and tokens(joined(events)) == count


@pytest.mark.parametrize("size", [0, 1, 1000, 3 * 1024 * 1024])
def test_body_bytes_sets_the_size(sim, size):
    answer = sim.chat(f"sim-chat?body_bytes={size}")
    assert len(answer["choices"][0]["message"]["content"].encode()) == size
    assert answer["usage"]["completion_tokens"] == tokens(answer["choices"][0]["message"]["content"])
    if size == 1000:
        assert len(joined(sim.stream("sim-chat?body_bytes=1000")[0])) == 1000
        assert len(json.loads(sim.post_chat("sim-chat?status=500&body_bytes=1000").text)["error"]["message"]) == 1000


def test_event_bytes_makes_one_large_event(sim):
    events, end = sim.stream("sim-chat?event_bytes=300000&tokens=5", stream_options={"include_usage": True})
    sizes = [len(json.loads(e)["choices"][0]["delta"]["content"]) for e in events[1:-2]]
    assert end == "done" and sizes[0] == 300000 and len(sizes) == 6
    assert json.loads(events[-1])["usage"]["completion_tokens"] == tokens(joined(events))


def raw_stream(sim, model):
    body = json.dumps(chat(model, stream=True)).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    return sim.raw(head + body).split(b"\r\n\r\n", 1)


def test_chunk_bytes_slices_the_stream(sim):
    whole, _ = sim.stream("sim-chat?tokens=30")
    for size in (1, 7, 100, 5000):
        events, end = sim.stream(f"sim-chat?tokens=30&chunk_bytes={size}")
        assert end == "done" and joined(events) == joined(whole)
        _, body = raw_stream(sim, f"sim-chat?tokens=30&chunk_bytes={size}")
        sizes = []
        while body:
            line, body = body.split(b"\r\n", 1)
            sizes.append(int(line, 16))
            body = body[sizes[-1] + 2:]
        assert sizes[-1] == 0 and set(sizes[:-2]) <= {size} and sizes[-2] <= size


def test_crlf_ends_lines(sim):
    assert b"data: [DONE]\r\n\r\n" in raw_stream(sim, "sim-chat?crlf=1")[1]
    assert b"data: [DONE]\n\n" in raw_stream(sim, "sim-chat?crlf=0")[1]


def test_comments_come_before_each_event(sim):
    _, body = raw_stream(sim, "sim-chat?comments=1&tokens=3")
    assert body.count(b": keepalive\n\ndata: ") == 6


def test_early_head_comes_before_the_wait(sim):
    connection, begun = sim.connect(), time.monotonic()
    connection.request("POST", "/v1/chat/completions", json.dumps(chat("sim-chat?early_head=1&first_token_ms=400", stream=True)))
    response = connection.getresponse()
    assert time.monotonic() - begun < 0.3
    assert response.read1(100000).startswith(b"data: ") and time.monotonic() - begun >= 0.39
    connection.close()


def test_headers_adds_headers(sim):
    head, _ = raw_stream(sim, "sim-chat?headers=300")
    assert head.count(b"\r\nx-sim-") == 300


# ---- content and usage ----


def test_reasoning_is_counted_and_limited(sim):
    usage = sim.chat("sim-chat?reasoning=500&tokens=10")["usage"]
    assert usage["completion_tokens"] == 510 and usage["completion_tokens_details"]["reasoning_tokens"] == 500
    answer = sim.chat("sim-chat?reasoning=500&tokens=10", max_completion_tokens=505)
    assert tokens(answer["choices"][0]["message"]["content"]) == 5 and answer["usage"]["completion_tokens"] == 505
    answer = sim.chat("sim-chat?reasoning=500&tokens=10", max_completion_tokens=100)
    assert answer["choices"][0]["message"]["content"] == "" and answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 100


def test_cached_is_at_most_the_prompt(sim):
    assert sim.chat("sim-chat?cached=4")["usage"]["prompt_tokens_details"]["cached_tokens"] == 4
    usage = sim.chat("sim-chat?cached=100000")["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"]


def usages(events):
    return [(i, json.loads(e)["usage"]) for i, e in enumerate(events) if json.loads(e).get("usage")]


def test_usage_missing(sim):
    assert "usage" not in sim.chat("sim-chat?usage=missing")
    assert usages(sim.stream("sim-chat?usage=missing", stream_options={"include_usage": True})[0]) == []
    assert "usage" not in sim.json("/v1/embeddings", {"model": "sim-embed?usage=missing", "input": "a"})


def test_usage_wrong(sim):
    usage = sim.chat("sim-chat?usage=wrong")["usage"]
    assert usage["total_tokens"] != usage["prompt_tokens"] + usage["completion_tokens"]
    assert usages(sim.stream("sim-chat?usage=wrong", stream_options={"include_usage": True})[0])[0][1] == usage


def test_usage_late_comes_twice_and_the_last_is_right(sim):
    events, end = sim.stream("sim-chat?usage=late&tokens=10")
    (early_at, early), (late_at, late) = usages(events)
    assert end == "done" and early["completion_tokens"] == 5 and late["completion_tokens"] == 10
    assert json.loads(events[early_at])["choices"][0]["delta"]["content"]
    assert late_at == len(events) - 1 and json.loads(events[late_at])["choices"]


def test_usage_finish_rides_on_the_finish(sim):
    events, _ = sim.stream("sim-chat?usage=finish&tokens=10", stream_options={"include_usage": True})
    (at, usage), = usages(events)
    assert usage["completion_tokens"] == 10 and json.loads(events[at])["choices"][0]["finish_reason"] == "stop"


# ---- faults ----


def test_status_code_and_retry_after(sim):
    response = sim.post_chat("sim-chat?status=429&retry_after=1.5&code=insufficient_quota", stream=True)
    assert (response.status, response.getheader("retry-after")) == (429, "1.500")
    assert json.loads(response.text)["error"]["code"] == "insufficient_quota"
    assert sim.post_chat("sim-chat?status=503&retry_after=2").getheader("retry-after") == "2"
    assert sim.request("POST", "/v1/embeddings", {"model": "sim-embed?status=500", "input": "a"}).status == 500


def test_fail_times_counts_whole_names(sim):
    assert [sim.post_chat("sim-chat?fail_times=2&status=503&tag=a").status for _ in range(4)] == [503, 503, 200, 200]
    assert [sim.post_chat("sim-chat?fail_times=1&tag=b").status for _ in range(2)] == [500, 200]
    assert [sim.stream("sim-chat?fail_times=1&cut_after=1&tag=c")[1] for _ in range(2)] == ["eof", "done"]
    assert sim.post_chat("sim-chat?fail_times=0&status=503").status == 200


@pytest.mark.parametrize("name, end", [("reset_after", "reset"), ("close_after", "closed"), ("cut_after", "eof")])
def test_streams_end_early(sim, name, end):
    for count in (0, 1, 3):
        events, how = sim.stream(f"sim-chat?{name}={count}&tokens=10")
        assert (len(events), how) == (count, end)


def test_bodies_end_early(sim):
    cut = sim.post_chat("sim-chat?cut_after=50")
    assert cut.status == 200 and len(cut.text) == 50
    with pytest.raises(json.JSONDecodeError):
        json.loads(cut.text)
    with pytest.raises(http.client.IncompleteRead):
        sim.post_chat("sim-chat?close_after=50")
    with pytest.raises(ConnectionResetError):
        sim.post_chat("sim-chat?reset_after=50")
    with pytest.raises(http.client.IncompleteRead):
        sim.request("POST", "/v1/embeddings", {"model": "sim-embed?close_after=9", "input": "a"})


def test_error_after_is_an_error_in_the_stream(sim):
    events, end = sim.stream("sim-chat?error_after=2&code=overloaded")
    assert end == "eof" and len(events) == 3 and json.loads(events[2])["error"]["code"] == "overloaded"
    assert sim.post_chat("sim-chat?error_after=2").status == 500


def left_waiting(sim, model, stream, wait=0.4):
    """What came before nothing more did. Fails when the simulator ends the answer by itself."""
    body = json.dumps(chat(model, stream=stream)).encode()
    with socket.create_connection(("127.0.0.1", sim.port)) as s:
        s.settimeout(wait)
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        got = b""
        while True:
            try:
                piece = s.recv(65536)
            except TimeoutError:
                return got
            assert piece, "the simulator closed the connection"
            got += piece


def test_stall_after_and_silent_leave_the_caller_waiting(sim):
    assert left_waiting(sim, "sim-chat?silent=1", False) == left_waiting(sim, "sim-chat?silent=1", True) == b""
    assert left_waiting(sim, "sim-chat?stall_after=2", True).count(b"data: ") == 2
    assert left_waiting(sim, "sim-chat?stall_after=0", True).endswith(b"chunked\r\n\r\n")
    assert len(left_waiting(sim, "sim-chat?stall_after=9", False).split(b"\r\n\r\n", 1)[1]) == 9


def test_drop_closes_without_an_answer(sim):
    with pytest.raises(http.client.RemoteDisconnected):
        sim.post_chat("sim-chat?drop=1")


def test_garbage_is_not_json(sim):
    response = sim.post_chat("sim-chat?garbage=1")
    assert response.status == 200 and response.getheader("content-type") == "application/json"
    with pytest.raises(json.JSONDecodeError):
        json.loads(response.text)
    events, end = sim.stream("sim-chat?garbage=1&tokens=4")
    assert end == "done" and len(events) == 7
    with pytest.raises(json.JSONDecodeError):
        json.loads(events[1])


def test_redirect_and_content_type(sim):
    response = sim.post_chat("sim-chat?redirect=1")
    assert response.status == 302 and response.getheader("location")
    for stream in (False, True):
        response = sim.post_chat("sim-chat?content_type=html", stream=stream)
        assert response.getheader("content-type").startswith("text/html") and response.text.startswith(b"<!DOCTYPE")
        response = sim.post_chat("sim-chat?content_type=text", stream=stream)
        assert response.getheader("content-type").startswith("text/plain")
        assert sim.post_chat("sim-chat?content_type=none", stream=stream).getheader("content-type") is None


# ---- the log, options, signals ----


def test_the_log_tells_each_call(fresh):
    sim = fresh()
    answer = sim.json("/v1/chat/completions", chat("sim-chat"), x_client_request_id="att_1")
    sim.stream("sim-chat?tokens=9")
    sim.stream("sim-chat?tokens=9&cut_after=4")
    sim.post_chat("sim-chat?status=503")
    left_waiting(sim, "sim-chat?tokens=9&stall_after=3", True)
    left_waiting(sim, "sim-chat?silent=1", False)
    sim.chat("sim-chat?usage=wrong&tokens=9&reasoning=5")
    lines = sim.log(7)
    got = [(e["output_tokens"], e["complete"], e["status"]) for e in lines]
    whole = answer["usage"]["completion_tokens"]
    assert got == [(whole, True, 200), (9, True, 200), (3, False, 200), (0, True, 503), (2, False, 200), (0, False, 0), (14, True, 200)]
    assert lines[0]["attempt_id"] == "att_1" and lines[1]["attempt_id"] is None
    assert lines[0]["input_tokens"] == 6 + tokens(PROMPT) and lines[3]["input_tokens"] == 0
    assert lines[2]["model"] == "sim-chat?tokens=9&cut_after=4"


def test_a_caller_who_leaves_is_noticed_at_once(fresh):
    sim = fresh()
    with socket.create_connection(("127.0.0.1", sim.port)) as s:
        body = json.dumps(chat("sim-chat?tokens=1000&tokens_per_s=50", stream=True)).encode()
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        s.recv(100)
        time.sleep(0.2)
    begun = time.monotonic()
    line, = sim.log(1)
    assert not line["complete"] and 1 <= line["output_tokens"] < 40 and time.monotonic() - begun < 1


def test_callers_who_vanish_leave_no_descriptors(fresh):
    sim = fresh()
    descriptors = Path(f"/proc/{sim.process.pid}/fd")
    before = len(list(descriptors.iterdir()))
    for model in ("", "silent=1", "stall_after=1", "tokens_per_s=1", "latency_ms=60000", "body_bytes=9000000", "reset_after=1", "drop=1"):
        for stream in (False, True):
            body = json.dumps(chat(f"sim-chat?{model}", stream=stream)).encode()
            data = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
            for sent in (data[:9], data[:-1], data, data + b"junk\r\n\r\n"):
                with socket.create_connection(("127.0.0.1", sim.port)) as s:
                    s.sendall(sent)
    deadline = time.monotonic() + 5
    while len(list(descriptors.iterdir())) > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(list(descriptors.iterdir())) == before


def test_usr1_reopens_the_log(fresh):
    sim = fresh()
    sim.chat()
    sim.log(1)
    moved = sim.log_path.with_suffix(".1")
    sim.log_path.rename(moved)
    sim.process.send_signal(signal.SIGUSR1)
    for _ in range(100):
        if sim.log_path.exists():
            break
        time.sleep(0.02)
    sim.chat()
    assert len(sim.log(1)) == 1 and len(moved.read_text().splitlines()) == 1


def test_term_ends_it_and_open_calls_are_logged(fresh):
    sim = fresh()
    with socket.create_connection(("127.0.0.1", sim.port)) as s:
        body = json.dumps(chat("sim-chat?silent=1")).encode()
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        time.sleep(0.2)
        assert sim.stop() == 0
    assert [e["complete"] for e in sim.log(1)] == [False]


def test_an_api_key_is_asked_for(fresh):
    sim = fresh("--api-key", "sk-1")
    for headers, want in (({}, 401), ({"authorization": "Bearer sk-2"}, 401), ({"authorization": "Bearer sk-1"}, 200),
                          ({"authorization": "bearer sk-1"}, 200), ({"authorization": "Basic sk-1"}, 401)):
        response = sim.request("POST", "/v1/chat/completions", chat("sim-chat"), **headers)
        assert response.status == want
    assert sim.request("GET", "/v1/models").status == 401
    assert sim.request("GET", "/health").status == 200
    assert json.loads(sim.request("GET", "/v1/models").text)["error"]["code"] == "invalid_api_key"


def test_a_connection_outlives_its_slow_calls(fresh):
    sim = fresh("--idle-timeout", "0")
    connection = sim.connect()
    for _ in range(30):
        connection.request("POST", "/v1/chat/completions", json.dumps(chat("sim-chat?latency_ms=5")))
        assert connection.getresponse().read()
    connection.close()


def test_an_idle_connection_is_closed(fresh):
    sim = fresh("--idle-timeout", "1")
    with socket.create_connection(("127.0.0.1", sim.port), timeout=5) as s:
        assert s.recv(1) == b""


@pytest.mark.parametrize("arguments, status", [
    (["--port", "70000"], 64), (["--port"], 64), (["--nothing"], 64), (["extra"], 64), (["--idle-timeout", "x"], 64),
    (["--listen", "256.0.0.1", "--port", "0"], 78), (["--port", "0", "--log", "/nonexistent/x"], 1), (["--help"], 0), (["--version"], 0)])
def test_the_command_line(arguments, status):
    done = subprocess.run([program(), *arguments], capture_output=True, text=True, timeout=10)
    assert done.returncode == status and (done.stdout if status == 0 else done.stderr)


def test_a_taken_port_is_an_error(sim):
    done = subprocess.run([program(), "--port", str(sim.port)], capture_output=True, text=True, timeout=10)
    assert done.returncode == 1 and "cannot listen" in done.stderr


def test_every_parameter_is_in_the_manual_and_in_this_file():
    table = (ROOT / "src/sim/behaviour.c").read_text()
    names = re.findall(r'^\t\{ "(\w+)", KIND_', table, re.M)
    manual, here = (ROOT / "man/headgate-sim.1").read_text(), Path(__file__).read_text()
    assert len(names) > 25
    for name in names:
        assert f".It Cm {name} Ns" in manual and re.search(rf"sim-\w+\?[^\s]*\b{name}=", manual), name
        assert re.search(rf"\b{name}=|\"{name}\"", here), name


# ---- HTTP ----


def test_a_connection_serves_many_requests_and_pipelines(sim):
    body = json.dumps(chat("sim-chat")).encode()
    one = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    last = b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    assert sim.raw(one * 500 + last).count(b"HTTP/1.1 200 OK") == 501
    connection = sim.connect()
    for _ in range(20):
        connection.request("POST", "/v1/chat/completions", body)
        assert connection.getresponse().read()
    connection.close()


def test_pipelined_requests_wait_for_a_slow_one(sim):
    slow = json.dumps(chat("sim-chat?latency_ms=300")).encode()
    data = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (len(slow), slow)
    got = sim.raw(data + b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert got.count(b"HTTP/1.1 200 OK") == 2 and got.index(b"chat.completion") < got.index(b'"status":"ok"')


def test_requests_may_dribble(sim):
    body = json.dumps(chat("sim-chat")).encode()
    data = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    with socket.create_connection(("127.0.0.1", sim.port), timeout=10) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(data)):
            s.sendall(data[i:i + 1])
        assert s.recv(65536).startswith(b"HTTP/1.1 200 OK")


def chunked(body, size):
    pieces = [body[i:i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 10, 100000])
def test_chunked_bodies_are_read(sim, size):
    body = json.dumps(chat("sim-chat", messages=[{"role": "user", "content": "word " * 4000}])).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    last = b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    assert sim.raw(head + chunked(body, size) + last).count(b"HTTP/1.1 200 OK") == 2


def test_expect_continue_is_answered(sim):
    body = json.dumps(chat("sim-chat")).encode()
    with socket.create_connection(("127.0.0.1", sim.port), timeout=10) as s:
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body))
        assert s.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(body)
        assert s.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_http_1_0_gets_no_chunks(sim):
    body = json.dumps(chat("sim-chat", stream=True)).encode()
    head, text = sim.raw(b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)).split(b"\r\n\r\n", 1)
    assert b"transfer-encoding" not in head and text.startswith(b"data: {") and text.endswith(b"data: [DONE]\n\n")


def test_a_half_closed_caller_still_gets_an_answer(sim):
    assert sim.raw(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n", shut=True).startswith(b"HTTP/1.1 200 OK")


def test_large_bodies_are_read_and_too_large_ones_refused(sim):
    text = "word " * 2_000_000
    assert sim.chat(messages=[{"role": "user", "content": text}])["usage"]["prompt_tokens"] == 6 + 2_000_001
    got = sim.raw(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n" + b"x" * 100000)
    assert got.startswith(b"HTTP/1.1 413 ") and json.loads(got.split(b"\r\n\r\n", 1)[1])["error"]["code"] == "request_too_large"


HOSTILE = [
    b"\0" * 100, b"GET\r\n\r\n", b"\r\n" * 50, b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01",
    b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 200 + b"\r\n", b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + b"0" * 100000,
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n\xff\xfe\0",
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n" + b"[" * 100000,
]


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_requests_are_refused(sim, data):
    got = sim.raw(data, shut=True)
    assert got == b"" or got.startswith(b"HTTP/1.1 4") or got.startswith(b"HTTP/1.1 5")
    assert sim.request("GET", "/health").status == 200


def test_random_damage_does_no_harm(sim):
    rng = random.Random(7)
    body = json.dumps(chat("sim-chat?tokens=3", tools=[TOOL], response_format={"type": "json_object"})).encode()
    good = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    for _ in range(300):
        data = bytearray(good)
        for _ in range(rng.randint(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            sim.raw(bytes(data[:rng.randint(1, len(data))]), shut=True)
        except ConnectionError:
            pass
    assert sim.request("GET", "/health").status == 200


def test_hundreds_of_streams_run_at_once(sim):
    """400 streams of one second each end together, within little more than a second."""
    body = json.dumps(chat("sim-chat?tokens=50&tokens_per_s=50", stream=True)).encode()
    data = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    begun, done = time.monotonic(), []

    def read_all(sockets):
        for s in sockets:
            got = b""
            while piece := s.recv(65536):
                got += piece
            done.append(got.count(b"data: ") == 53)
            s.close()

    sockets = [socket.create_connection(("127.0.0.1", sim.port), timeout=20) for _ in range(400)]
    for s in sockets:
        s.sendall(data)
    threads = [threading.Thread(target=read_all, args=(sockets[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [True] * 400 and time.monotonic() - begun < 8
