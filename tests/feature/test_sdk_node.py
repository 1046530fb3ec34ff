# SPDX-License-Identifier: Apache-2.0
"""The official OpenAI SDK for Node (tests/sdk-node). It wants Node 22, which npm's package `node` brings."""
import os
import re
import shutil
import subprocess

import pytest

from stack import TOP, WEBS

SOURCE = os.path.join(TOP, "tests", "sdk-node")


@pytest.fixture(scope="session")
def node_tests(tmp_path_factory):
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    place = os.environ.get("HEADGATE_SDK_NODE") or str(tmp_path_factory.mktemp("sdk-node"))
    shutil.copytree(SOURCE, place, ignore=shutil.ignore_patterns("node_modules"), dirs_exist_ok=True)
    if not os.path.exists(os.path.join(place, "node_modules", "openai")):
        done = subprocess.run(["npm", "ci", "--no-fund", "--no-audit"], cwd=place, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            pytest.skip(f"npm ci could not fetch the packages: {done.stderr.strip().splitlines()[-1:]}")
    node = os.path.join(place, "node_modules", ".bin", "node")
    if not os.path.exists(node):
        node = shutil.which("node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(re.match(r"v(\d+)", version)[1]) < 22:
        pytest.skip(f"the SDK wants Node 22, this is {version.strip()}")
    return node, place


@pytest.mark.parametrize("web", WEBS)
def test_the_official_node_sdk_works_unchanged(node_tests, stacks, web):
    node, place = node_tests
    stack = stacks.get(web)
    done = subprocess.run([node, "--test", "--test-reporter=tap"], cwd=place, capture_output=True, text=True, timeout=300,
                          env={**os.environ, **stack.env})
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert int(re.search(r"^# pass (\d+)$", done.stdout, re.M)[1]) >= 11
