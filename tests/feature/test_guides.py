# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/guides are run, in order, on a machine thrown away afterwards (guide_rig.sh): then a call goes through."""
import os
import re
import subprocess

import pytest

from stack import TOP

RIG = os.path.join(TOP, "tests", "feature", "guide_rig.sh")

# After the guide: the simulator becomes a provider, and calls come back through port 80, streamed and not.
PROOF = r"""
key=$(headgatectl key create --organization Acme --name proof --quiet)
headgate-sim --port 8090 >/dev/null 2>&1 &
until (exec 3<>/dev/tcp/127.0.0.1/8090) 2>/dev/null; do sleep 0.1; done
headgatectl provider add sim --base-url http://127.0.0.1:8090/v1 --allow-http --allow-private >/dev/null
headgatectl model add 'sim-*' --target sim >/dev/null
call() { curl -sS http://127.0.0.1/v1/chat/completions -H "Authorization: Bearer $key" -H 'Content-Type: application/json' -d "$1"; }
call '{"model":"sim-chat","messages":[{"role":"user","content":"Hello!"}]}' | grep -o '"object":"chat.completion"'
call '{"model":"sim-chat","stream":true,"messages":[{"role":"user","content":"Hello!"}]}' | grep -F 'data: [DONE]'
runuser -u postgres -- psql -XAt "postgresql:///headgate?host=/run/postgresql" -c 'SELECT count(*) FROM headgate.requests WHERE status = 200' | sed 's/^/ledger: /'
headgatectl status
"""


def commands(page, kind=""):
    with open(os.path.join(TOP, "docs", "guides", page), encoding="utf-8") as f:
        blocks = re.findall(r"^```sh ?(\w*)\n(.*?)^```$", f.read(), re.M | re.S)
    if kind:
        return [text for name, text in blocks if name == kind]
    # what builds is built already; it is only installed here
    return ["make_install\n" if name == "build" else text for name, text in blocks if name in ("", "build")]


def follow(tmp_path, *steps):
    build = os.environ.get("HEADGATE_BUILDDIR")
    if not build:
        pytest.skip("HEADGATE_BUILDDIR is not set: nothing to install")
    script = tmp_path / "guide.sh"
    script.write_text("set -eu\n" + "\n".join(steps) + PROOF, encoding="utf-8")
    done = subprocess.run([RIG, build, str(script)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=180)
    if done.returncode == 77:
        pytest.skip("needs root, namespaces and overlayfs")
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert '"chat.completion"' in done.stdout and "[DONE]" in done.stdout and "ledger: 2" in done.stdout, done.stdout


@pytest.mark.parametrize("page", ["install-lighttpd.md", "install-apache.md", "install-nginx.md"])
def test_the_guide_leads_to_a_call_that_works(tmp_path, page):
    follow(tmp_path, *commands("install.md"), *commands(page))


def test_the_operators_commands_do_what_they_say(tmp_path):
    """The checks of operations.md, on what the guide for lighttpd installs."""
    checks = commands("operations.md", "check")
    assert len(checks) == 3
    follow(tmp_path, *commands("install.md"), *commands("install-lighttpd.md"), *checks)


def test_the_mod_fcgid_part_too(tmp_path):
    follow(tmp_path, *commands("install.md"), *commands("install-apache.md"), *commands("install-apache.md", "fcgid"))
