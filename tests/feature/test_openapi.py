# SPDX-License-Identifier: Apache-2.0
"""docs/openapi.yaml and the routing table say the same, both ways."""
import os
import pathlib
import subprocess

import pytest

yaml = pytest.importorskip("yaml")

SRC = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HEADGATE_BUILDDIR", SRC))
METHODS = {"get", "post", "put", "patch", "delete"}


def documented():
    spec = yaml.safe_load((SRC / "docs/openapi.yaml").read_text())
    return {f"{m.upper()} {path}" for path, ops in spec["paths"].items() for m in ops if m in METHODS}


def built():
    tool = BUILD / "tests/tools/print_routes"
    if not tool.exists():
        pytest.fail("tests/tools/print_routes is not built: make builds it, HEADGATE_BUILDDIR tells where")
    return set(subprocess.run([tool], check=True, capture_output=True, text=True).stdout.split("\n")) - {""}


def test_every_route_is_documented():
    assert built() - documented() == set()


def test_every_documented_operation_is_a_route():
    assert documented() - built() == set()


def test_every_reference_leads_somewhere():
    spec = yaml.safe_load((SRC / "docs/openapi.yaml").read_text())

    def walk(node):
        if isinstance(node, dict):
            if "$ref" in node:
                at = spec
                for part in node["$ref"].removeprefix("#/").split("/"):
                    at = at[part]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(spec)


def test_operations_have_an_id_of_their_own_and_tell_their_errors():
    spec = yaml.safe_load((SRC / "docs/openapi.yaml").read_text())
    ids = []
    for path, ops in spec["paths"].items():
        for method, op in ops.items():
            if method not in METHODS:
                continue
            ids.append(op["operationId"])
            if op.get("security") != []:
                assert "401" in op["responses"], f"{method} {path} says nothing of 401"
    assert len(ids) == len(set(ids))
