# SPDX-License-Identifier: Apache-2.0
"""Fixtures: stacks by web server, shared by the session and started when first used."""
import os

import pytest

from schemas import ours, valid  # noqa: F401 (fixtures)
from stack import WEBS, Stack, Stacks


@pytest.fixture(scope="session")
def stacks():
    all_stacks = Stacks()
    yield all_stacks
    all_stacks.remove()


@pytest.fixture(params=WEBS)
def gateway(request, stacks):
    """Each test that asks for this one runs on all four web servers."""
    return stacks.get(request.param)


@pytest.fixture
def headgate(stacks):
    """One stack, for what does not depend on the web server."""
    return stacks.get(WEBS[0])


@pytest.fixture
def own_stack():
    """A stack the test may break: own_stack(web, env) starts it."""
    made = []

    def start(web=WEBS[0], env=None, started=True):
        stack = Stack(web, env)
        made.append(stack)
        if started:
            stack.start()
        return stack

    yield start
    for stack in made:
        stack.remove()


def pytest_collection_modifyitems(items):
    if not os.environ.get("HEADGATE_LONG"):
        for item in items:
            if "long" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes: admin/check --long"))
