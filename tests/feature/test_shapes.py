# SPDX-License-Identifier: Apache-2.0
"""What the gateway answers has the shape that OpenAI's description and ours promise."""
import json

import pytest

MESSAGES = [{"role": "user", "content": "What is the weather like in Paris?"}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}}

CASES = {
    "plain": {},
    "image": {"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]},
    "parallel tools": {"model": "sim-chat?tool=weather&parallel=2", "tools": TOOLS},
    "structured": {"response_format": SCHEMA},
    "length": {"max_completion_tokens": 3},
    "reasoning and cache": {"model": "sim-chat?reasoning=7&cached=3"},
    "two choices": {"n": 2},
}


@pytest.mark.parametrize("case", CASES)
def test_a_chat_answer_is_what_openai_describes(headgate, valid, case):
    answer = headgate.client.post("/v1/chat/completions", {"model": "sim-chat", "messages": MESSAGES, **CASES[case]})
    assert answer.status == 200, answer
    valid("CreateChatCompletionResponse", answer.json())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("usage", [True, False])
def test_every_chunk_is_what_openai_describes(headgate, valid, case, usage):
    answer = headgate.client.post("/v1/chat/completions", {"model": "sim-chat", "messages": MESSAGES, **CASES[case], "stream": True,
                                                           "stream_options": {"include_usage": usage}})
    events = answer.events()
    assert events[-1] == "[DONE]"
    for event in events[:-1]:
        valid("CreateChatCompletionStreamResponse", json.loads(event))
    assert any(not json.loads(e)["choices"] for e in events[:-1]) is usage


def test_other_answers_are_what_openai_describes(headgate, valid):
    client = headgate.client
    valid("CreateCompletionResponse", client.post("/v1/completions", {"model": "sim-chat", "prompt": "Once"}).json())
    valid("CreateEmbeddingResponse", client.post("/v1/embeddings", {"model": "sim-embed", "input": ["a", "b"]}).json())
    valid("ListModelsResponse", client.get("/v1/models").json())
    valid("Model", client.get("/v1/models/sim-chat").json())


def test_every_error_is_what_openai_describes(headgate, valid):
    client = headgate.client
    answers = [client.chat("no-such-model"), client.chat(headers={"Authorization": None}), client.get("/v1/nothing"), client.get("/v1/completions"),
               client.post("/v1/chat/completions", "{", headers={"Content-Type": "application/json"})]
    answers += [client.chat(f"sim-chat?status={s}") for s in (400, 401, 403, 404, 409, 422, 429, 500, 503, 529)]
    for answer in answers:
        assert answer.status >= 400
        valid("ErrorResponse", answer.json())


def test_our_own_answers_are_what_we_describe(headgate, ours):
    client = headgate.client
    made = client.chat().request_id
    ours("Request", headgate.request(made))
    ours("RequestList", client.get("/v1/requests").json())
    ours("UsageReport", client.get("/v1/usage?group_by=day,model").json())
    ours("ModelList", client.get("/v1/models").json())
    ours("Error", client.get("/v1/nothing").json())
    for path in ("live", "ready", "startup"):
        ours("Health", client.get(f"/health/{path}").json())
