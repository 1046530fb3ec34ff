# SPDX-License-Identifier: Apache-2.0
"""Fixtures: stacks by web server, shared by the session and started when first used."""
import os
import signal

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


def place(item):
    """Which worker's business a test is under pytest-xdist: one per web server, so that each stack is started once; the rest by file."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    web = parameters.get("gateway") or parameters.get("web")
    if web in WEBS:
        return web
    return WEBS[0] if "headgate" in item.fixturenames and "own_stack" not in item.fixturenames else item.path.name


def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.xdist_group(place(item)))
        if "long" in item.keywords and not os.environ.get("HEADGATE_LONG"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: admin/check --long"))


def pytest_configure(config):
    config.addinivalue_line("markers", "xdist_group(name): tests that run on one worker")
    # ended from outside: take the stacks down too
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
