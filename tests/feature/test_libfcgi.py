# SPDX-License-Identifier: Apache-2.0
"""Why the gate reads for itself: what libfcgi does with the same bytes when it reads from the peer (M1 to M4 of
reliability.md). Each test asks first whether libfcgi still fails; when a fixed one no longer does, it skips and says so.
Then the gate gets the same treatment."""
import os
import pathlib
import signal
import struct
import time

import pytest

from rawfcgi import GET_VALUES, PARAMS, Program, begin, eventually, pair, record, request

BUILD = os.environ.get("HEADGATE_BUILDDIR") or str(pathlib.Path(__file__).resolve().parents[2])
BARE = os.path.join(BUILD, "tests/tools/bare_fcgi")
ECHO = os.path.join(BUILD, "tests/tools/gate_echo")

pytestmark = pytest.mark.skipif(not os.path.exists(BARE), reason="bare_fcgi is not built (set HEADGATE_BUILDDIR)")


def fails(still, what):
    if not still:
        pytest.skip("this libfcgi no longer " + what)


def lengths(name, value):
    return struct.pack(">II", 0x80000000 | name, 0x80000000 | value)


def test_the_bare_program_works_when_nobody_attacks():
    with Program([BARE, "2"]) as p:
        assert p.ask("/?bytes=10").status == 200


@pytest.mark.parametrize("attack", ["m1 two lengths of 1 GiB", "get_values with 40 names"])
def test_m1_one_record_kills_libfcgi_and_every_request_in_it(attack):
    if attack.startswith("m1"):
        bytes_sent = begin() + record(PARAMS, 1, lengths(0x40000000, 0x3FFFFFFF))
    else:
        bytes_sent = record(GET_VALUES, 0, pair("FCGI_MAX_CONNS", "") * 40) + begin()
    with Program([ECHO]) as g, g.connect() as p:
        p.send(bytes_sent)
        assert g.ask("/echo").status == 200 and g.alive()
    with Program([BARE, "4"]) as bare, bare.connect() as p:
        p.send(bytes_sent)
        died = bare.wait_exit(3)
        fails(died == -signal.SIGABRT, f"dies of {attack}")


def test_m2_libfcgi_takes_a_parameter_of_any_size():
    size = 200 << 20

    def flood(program):
        with program.connect() as p:
            try:
                p.send(begin() + record(PARAMS, 1, lengths(size, 1)))
                for _ in range(size // 65535):
                    p.send(record(PARAMS, 1, b"n" * 65535))
            except OSError:
                pass
            return program.rss_mib()
    with Program([ECHO]) as g:
        assert flood(g) < 80  # far from 200, also under sanitizers
    with Program([BARE]) as bare:
        fails(flood(bare) > 150, "keeps parameters of 200 MiB")


def test_m3_libfcgi_waits_for_a_stalled_peer_with_its_whole_thread():
    stalled = begin() + record(PARAMS, 1, pair("A", "B"))[:-1]

    def waits(program):
        with program.connect() as p:
            p.send(stalled)
            time.sleep(0.1)
            with program.connect(timeout=2) as other:
                try:
                    other.send(request("/echo"))
                    return not other.answer().ended
                except TimeoutError:
                    return True
    with Program([ECHO, "--threads", "1"]) as g:
        assert not waits(g)
    with Program([BARE, "1"]) as bare:
        fails(waits(bare), "lets a stalled peer hold a thread")


def test_m4_libfcgi_leaves_its_accept_loop_when_descriptors_run_out():
    def run_out(program):
        held = [program.connect() for _ in range(40)]
        for p in held:
            p.send(begin())  # so that accepting threads stay with them
        time.sleep(0.5)
        for p in held:
            p.close()
    with Program([ECHO], nofile=24) as g:
        run_out(g)
        assert eventually(lambda: g.alive() and g.ask("/echo").status == 200)
    with Program([BARE, "30"], nofile=24) as bare:
        run_out(bare)
        fails(bare.wait_exit(2) == 3, "leaves its accept loop on EMFILE")


def test_libfcgi_takes_sigterm_for_itself_and_the_gate_takes_it_back():
    def caught(program):
        program.ask("/echo")
        return int(program.status("SigCgt"), 16) >> (signal.SIGTERM - 1) & 1
    with Program([ECHO]) as g:
        assert not caught(g)
        assert int(g.status("SigBlk"), 16) >> (signal.SIGTERM - 1) & 1  # it comes through a signalfd
    with Program([BARE]) as bare:
        fails(caught(bare), "installs a handler for SIGTERM")
