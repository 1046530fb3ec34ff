# SPDX-License-Identifier: Apache-2.0
"""GET /metrics: what the host counted agrees with the ledger; who may read it; names that would break the format."""
import json
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from provider import Provider, http_answer
from stack import wait_for

LINE = re.compile(r'^([a-z_]+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
NAME = 'quo"te\\back'
ANSWER = ('{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
          '"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18,'
          '"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}')


@pytest.fixture
def model(headgate):
    p = Provider()
    headgate.ctl("provider", "add", "metered", "--kind", "openai", "--base-url", p.url, "--allow-http", "--allow-private", "--api-key-stdin", stdin="sk-own-secret\n")
    headgate.ctl("price", "add", "metered", "*", "--input", "1.000000001", "--output", "2.5")
    headgate.ctl("model", "add", NAME, "--target", "metered=upstream-name")
    p.answer = http_answer(ANSWER)
    yield p
    headgate.ctl("model", "remove", NAME)
    headgate.ctl("provider", "remove", "metered")
    p.close()


def scrape(stack, **headers):
    answer = stack.client.get("/metrics", headers={"Authorization": None, **headers})
    assert answer.status == 200, answer
    return answer.body.decode()


def read(text):
    """(name, labels) -> value; every line must parse whole."""
    out = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        m = LINE.match(line)
        assert m, line
        pairs = LABEL.findall(m[2] or "")
        assert ",".join(f'{k}="{v}"' for k, v in pairs) == (m[2] or ""), line
        labels = tuple((k, re.sub(r"\\(.)", lambda e: "\n" if e[1] == "n" else e[1], v)) for k, v in pairs)
        assert (m[1], labels) not in out, f"twice: {line}"
        out[m[1], labels] = Decimal(m[3])
    return out


def total(values, name, **labels):
    return sum((v for (n, have), v in values.items() if n == name and labels.items() <= dict(have).items()), Decimal(0))


def test_tokens_and_cost_agree_with_the_ledger(headgate, model):
    before = read(scrape(headgate))
    calls = 40
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: headgate.client.chat(NAME), range(calls)))
    assert all(a.status == 200 for a in answers), answers[0]
    mine = dict(model=NAME, provider="metered", endpoint="/v1/chat/completions", status="2xx", error="")

    def grown(name, **labels):
        return total(read(scrape(headgate)), name, **labels) - total(before, name, **labels)
    assert wait_for(lambda: grown("headgate_requests_total", **mine) == calls, 10), scrape(headgate)
    ids = ",".join(a.request_id.removeprefix("req_") for a in answers)
    row = headgate.sql("select count(*) as n, sum(input_tokens) as i, sum(cached_tokens) as c, sum(output_tokens) as o, sum(reasoning_tokens) as g, "
                       "sum(cost_nusd) as cost from headgate.requests where id = any(string_to_array(:'ids', ',')::uuid[])", ids=ids)[0]
    assert int(row["n"]) == calls and int(row["i"]) == 11 * calls and int(row["cost"]) > 0
    for name, column in (("input", "i"), ("cached", "c"), ("output", "o"), ("reasoning", "g")):
        assert grown(f"headgate_{name}_tokens_total", **mine) == int(row[column]), name
    assert grown("headgate_cost_dollars_total", **mine) * 10**9 == int(row["cost"])


def test_an_error_is_counted_by_its_code_and_never_by_the_callers_string(headgate):
    before = read(scrape(headgate))
    assert headgate.client.chat("no-such-model-anywhere").status == 404
    mine = dict(endpoint="/v1/chat/completions", status="4xx", model="")

    def grown():
        return total(read(scrape(headgate)), "headgate_requests_total", **mine) - total(before, "headgate_requests_total", **mine)
    assert wait_for(lambda: grown() == 1, 10)
    assert "no-such-model-anywhere" not in scrape(headgate)


def test_histograms_are_cumulative_and_end_in_their_count(headgate):
    headgate.client.chat()
    values = read(scrape(headgate))
    name = "headgate_request_duration_seconds"
    for stage in ("read", "auth", "decode", "route", "upstream", "settle", "total"):
        buckets = [v for (n, labels), v in values.items() if n == f"{name}_bucket" and ("stage", stage) in labels]
        assert len(buckets) == 17 and buckets == sorted(buckets)
        assert buckets[-1] == values[f"{name}_count", (("stage", stage),)]
    assert total(values, "headgate_processes", kind="fcgi") >= 1


def test_what_a_proxy_passed_on_needs_a_key_of_scope_admin(headgate):
    elsewhere = {"X-Forwarded-For": "203.0.113.7"}
    assert headgate.client.get("/metrics", headers={"Authorization": None, **elsewhere}).status == 401
    assert headgate.client.get("/metrics", headers=elsewhere).status == 403


def test_promtool_finds_nothing(headgate, model):
    headgate.client.chat(NAME)
    tool = shutil.which("promtool")
    assert tool, "promtool is not installed: apt-get install prometheus, whose service is not needed"
    checked = subprocess.run([tool, "check", "metrics"], input=scrape(headgate), capture_output=True, text=True, timeout=30)
    assert checked.returncode == 0 and not checked.stderr.strip(), json.dumps(checked.stderr)
