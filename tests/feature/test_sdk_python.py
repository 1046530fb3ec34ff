# SPDX-License-Identifier: Apache-2.0
"""The official OpenAI SDK for Python, unchanged but for its base URL and key (exact version in requirements.txt)."""
import asyncio
import json
import math

import pytest

openai = pytest.importorskip("openai", reason="pip install -r tests/feature/requirements.txt")

MESSAGES = [{"role": "user", "content": "Say something about rivers."}]
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}


@pytest.fixture
def sdk(gateway):
    return openai.OpenAI(base_url=gateway.env["HEADGATE_URL"] + "/v1", api_key=gateway.env["HEADGATE_API_KEY"])


def test_chat(sdk):
    completion = sdk.chat.completions.create(model="sim-chat", messages=MESSAGES)
    assert completion.choices[0].message.content and completion.usage.total_tokens > 0
    assert completion._request_id.startswith("req_")


def test_chat_streamed(sdk):
    whole = sdk.chat.completions.create(model="sim-chat", messages=MESSAGES).choices[0].message.content
    stream = sdk.chat.completions.create(model="sim-chat", messages=MESSAGES, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
    assert chunks[-1].usage.completion_tokens > 0


def test_chat_async(sdk):
    async def talk():
        client = openai.AsyncOpenAI(base_url=str(sdk.base_url), api_key=sdk.api_key)
        async with client:
            stream = await client.chat.completions.create(model="sim-chat", messages=MESSAGES, stream=True)
            return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
    assert asyncio.run(talk())


def test_a_stream_with_comments_in_it_is_read_without_trouble(sdk):
    stream = sdk.chat.completions.create(model="sim-chat?first_token_ms=11500&tokens=3", messages=MESSAGES, stream=True)
    assert [c for c in stream if c.choices and c.choices[0].delta.content]


def test_a_stream_cut_upstream_raises(sdk):
    stream = sdk.chat.completions.create(model="sim-chat?tokens=50&cut_after=5", messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError):
        list(stream)


def test_parallel_tools(sdk):
    completion = sdk.chat.completions.create(model="sim-chat?tool=get_weather&parallel=2", messages=MESSAGES, tools=[WEATHER])
    calls = completion.choices[0].message.tool_calls
    assert len(calls) == 2 and all("city" in json.loads(c.function.arguments) for c in calls)


def test_structured_output_is_parsed(sdk):
    pydantic = pytest.importorskip("pydantic")

    class Answer(pydantic.BaseModel):
        number: int
        words: list[str]

    completion = sdk.chat.completions.parse(model="sim-chat", messages=MESSAGES, response_format=Answer)
    assert isinstance(completion.choices[0].message.parsed, Answer)


def test_completions_and_embeddings(sdk):
    assert sdk.completions.create(model="sim-chat", prompt="Once upon", max_tokens=5).choices[0].text
    vectors = sdk.embeddings.create(model="sim-embed", input=["a river", "a brook"]).data
    assert len(vectors) == 2 and math.isclose(math.hypot(*vectors[0].embedding), 1, rel_tol=1e-3)


def test_models(sdk):
    assert "sim-chat" in [m.id for m in sdk.models.list()]
    assert sdk.models.retrieve("sim-chat").id == "sim-chat"


@pytest.mark.parametrize("model, error", [
    ("no-such-model", "NotFoundError"), ("sim-chat?status=400", "BadRequestError"), ("sim-chat?status=422", "UnprocessableEntityError"),
    ("sim-chat?status=429", "RateLimitError"), ("sim-chat?status=500", "InternalServerError"), ("sim-chat?status=401", "InternalServerError")])
def test_errors_have_the_classes_of_their_statuses(sdk, model, error):
    with pytest.raises(getattr(openai, error)) as raised:
        sdk.with_options(max_retries=0).chat.completions.create(model=model, messages=MESSAGES)
    assert raised.value.request_id.startswith("req_") and raised.value.body["message"]


def test_a_wrong_key_is_an_authentication_error(sdk):
    with pytest.raises(openai.AuthenticationError):
        sdk.with_options(api_key="wrong-key-wrong-key", max_retries=0).models.list()


def test_the_sdk_retries_what_is_worth_it(sdk, gateway):
    model = f"sim-chat?status=503&retry_after=0.1&fail_times=1&tag=py-{gateway.web}"
    assert sdk.chat.completions.create(model=model, messages=MESSAGES).id
