// SPDX-License-Identifier: Apache-2.0
// The official OpenAI SDK, unchanged but for its base URL and key. HEADGATE_URL and HEADGATE_API_KEY say where.
import assert from 'node:assert/strict';
import test from 'node:test';
import OpenAI, { APIConnectionTimeoutError, AuthenticationError, BadRequestError, NotFoundError, RateLimitError } from 'openai';

const client = new OpenAI({ baseURL: `${process.env.HEADGATE_URL}/v1`, apiKey: process.env.HEADGATE_API_KEY });
const messages = [{ role: 'user', content: 'Say something about rivers.' }];
const weather = {
  type: 'function',
  function: { name: 'get_weather', parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] } },
};

test('a completion has text, usage and a request id', async () => {
  const completion = await client.chat.completions.create({ model: 'sim-chat', messages });
  assert.equal(completion.object, 'chat.completion');
  assert.ok(completion.choices[0].message.content.length > 0);
  assert.ok(completion.usage.total_tokens > 0);
  assert.match(completion._request_id, /^req_/);
});

test('a stream joins to the same text', async () => {
  const whole = await client.chat.completions.create({ model: 'sim-chat', messages });
  const stream = await client.chat.completions.create({ model: 'sim-chat', messages, stream: true });
  let text = '';
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? '';
  assert.equal(text, whole.choices[0].message.content);
});

test('usage is streamed to those who ask', async () => {
  const stream = await client.chat.completions.create({ model: 'sim-chat', messages, stream: true, stream_options: { include_usage: true } });
  let usage = null;
  for await (const chunk of stream) usage = chunk.usage ?? usage;
  assert.ok(usage.completion_tokens > 0);
});

test('a stream that is broken off by the caller raises nothing', async () => {
  const stream = await client.chat.completions.create({ model: 'sim-chat?tokens=500&tokens_per_s=50', messages, stream: true });
  for await (const chunk of stream) { if (chunk.choices[0]?.delta?.content) break; }
});

test('a stream cut upstream raises', async () => {
  const stream = await client.chat.completions.create({ model: 'sim-chat?tokens=50&cut_after=5', messages, stream: true });
  await assert.rejects(async () => { for await (const _ of stream); });
});

test('parallel tools', async () => {
  const completion = await client.chat.completions.create({ model: 'sim-chat?tool=get_weather&parallel=2', messages, tools: [weather] });
  const calls = completion.choices[0].message.tool_calls;
  assert.equal(calls.length, 2);
  for (const call of calls) assert.equal(typeof JSON.parse(call.function.arguments).city, 'string');
});

test('structured output', async () => {
  const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'], additionalProperties: false };
  const completion = await client.chat.completions.create({
    model: 'sim-chat', messages, response_format: { type: 'json_schema', json_schema: { name: 'n', strict: true, schema } },
  });
  assert.equal(typeof JSON.parse(completion.choices[0].message.content).n, 'number');
});

test('embeddings, which the SDK asks for as base64', async () => {
  const result = await client.embeddings.create({ model: 'sim-embed', input: ['a river', 'a brook'] });
  assert.equal(result.data.length, 2);
  const length = Math.hypot(...result.data[0].embedding);
  assert.ok(Math.abs(length - 1) < 1e-3);
});

test('models', async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes('sim-chat'));
  assert.equal((await client.models.retrieve('sim-chat')).id, 'sim-chat');
});

test('errors have the classes of their statuses', async () => {
  const wrong = new OpenAI({ baseURL: client.baseURL, apiKey: 'wrong-key-wrong-key', maxRetries: 0 });
  await assert.rejects(wrong.models.list(), AuthenticationError);
  const once = client.withOptions({ maxRetries: 0 });
  await assert.rejects(once.chat.completions.create({ model: 'no-such-model', messages }), (e) =>
    e instanceof NotFoundError && e.code === 'model_not_found' && /^req_/.test(e.requestID));
  await assert.rejects(once.chat.completions.create({ model: 'sim-chat?status=400', messages }), BadRequestError);
  await assert.rejects(once.chat.completions.create({ model: 'sim-chat?status=429', messages }), RateLimitError);
  await assert.rejects(once.chat.completions.create({ model: 'sim-chat?silent=1', messages }, { timeout: 500 }), APIConnectionTimeoutError);
});

test('the SDK retries what is worth it', async () => {
  const model = `sim-chat?status=503&retry_after=0.1&fail_times=1&tag=node-${process.pid}`;
  assert.ok((await client.chat.completions.create({ model, messages })).id);
});
