# SPDX-License-Identifier: Apache-2.0
"""docs/reference/errors.md is what the error table prints."""
import os
import pathlib
import subprocess

import pytest

SRC = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HEADGATE_BUILDDIR", SRC))


def test_the_page_is_the_table():
    tool = BUILD / "tests/tools/print_errors"
    if not tool.exists():
        pytest.fail("tests/tools/print_errors is not built: make builds it, HEADGATE_BUILDDIR tells where")
    printed = subprocess.run([tool], check=True, capture_output=True, text=True).stdout
    assert printed == (SRC / "docs/reference/errors.md").read_text(), "run tests/tools/print_errors > docs/reference/errors.md"
