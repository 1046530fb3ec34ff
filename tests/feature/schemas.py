# SPDX-License-Identifier: Apache-2.0
"""OpenAI's own description of its answers, where it is at hand ($HEADGATE_SHARED/openai/openapi.yaml), and ours."""
import json
import os
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]


def nullable(schema):
    """OpenAPI 3.0's `nullable` in the words of JSON Schema."""
    if isinstance(schema, list):
        return [nullable(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {k: nullable(v) for k, v in schema.items()}
    if schema.pop("nullable", None) is True:
        return {"anyOf": [schema, {"type": "null"}]}
    return schema


@pytest.fixture(scope="session")
def valid():
    """A function that validates a value against a named schema of OpenAI's description."""
    jsonschema, yaml = pytest.importorskip("jsonschema"), pytest.importorskip("yaml")
    shared = Path(os.environ.get("HEADGATE_SHARED", TOP.parent / "shared" / "data"))
    path = next((p for p in (shared / "openai/openapi.yaml", shared / "data/openai/openapi.yaml") if p.exists()), None)
    if not path:
        pytest.skip("openai/openapi.yaml is not at hand")
    document = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    schemas = nullable(document["components"]["schemas"])
    # the description forgets that in a streamed completion the reason is null until the end
    schemas["CreateCompletionChunk"] = json.loads(json.dumps(schemas["CreateCompletionResponse"]))
    choice = schemas["CreateCompletionChunk"]["properties"]["choices"]["items"]["properties"]
    choice["finish_reason"] = {"anyOf": [choice["finish_reason"], {"type": "null"}]}
    schemas["CreateCompletionChunk"]["properties"]["usage"] = {"anyOf": [schemas["CompletionUsage"], {"type": "null"}]}

    def check(name, value):
        root = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
        jsonschema.Draft202012Validator(root).validate(value)

    return check


@pytest.fixture(scope="session")
def ours():
    """A function that validates a value against a named schema of docs/openapi.yaml."""
    jsonschema, yaml = pytest.importorskip("jsonschema"), pytest.importorskip("yaml")
    document = yaml.safe_load((TOP / "docs/openapi.yaml").read_text())

    def check(name, value):
        jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": document["components"]}).validate(value)

    return check
