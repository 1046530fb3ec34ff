# SPDX-License-Identifier: Apache-2.0
"""The gate against a peer that does everything wrong. Tests are named after the rows of the fault catalogue (F-50 ...)."""
import gzip
import os
import pathlib
import signal
import socket
import struct
import threading
import time

import pytest

import rawfcgi as fcgi
from rawfcgi import BEGIN, ABORT, END, PARAMS, STDIN, GET_VALUES, UNKNOWN, STDOUT, Program, eventually, pair, record, request, stream

BUILD = os.environ.get("HEADGATE_BUILDDIR") or str(pathlib.Path(__file__).resolve().parents[2])
ECHO = os.path.join(BUILD, "tests/tools/gate_echo")
# Sanitizers and busy machines: the limits of the gate and what is asked of it stretch alike.
SLOW = float(os.environ.get("HEADGATE_PATIENCE", "1"))

pytestmark = pytest.mark.skipif(not os.path.exists(ECHO), reason="gate_echo is not built (set HEADGATE_BUILDDIR)")


def gate(*options, **kw):
    argv = [ECHO]
    for name, value in zip(options[::2], options[1::2]):
        argv += ["--" + name, str(int(value * SLOW) if name.endswith("-ms") else value)]
    return Program(argv, **kw)


@pytest.fixture(scope="module")
def shared():
    """One gate with short limits for all tests that leave it as it was."""
    with gate("threads", 32, "head-ms", 400, "silence-ms", 500, "floor-ms", 1500, "rate", 1000000, "write-ms", 500) as g:
        yield g
        assert g.alive(), g.log()
        quiet(g)


def quiet(g):
    """Nothing is left behind: no memory of bodies, no thread at work, no connection."""
    def settled():
        s = g.stats()
        return s["body_bytes"] == 0 and s["busy"] == 1 and s["parked"] == 0
    assert eventually(settled, 8), g.stats()


# --- plain service -----------------------------------------------------------------------------------------------------


def test_a_request_is_answered_with_what_the_front_always_sends(shared):
    a = shared.ask("/echo?x=1", body=b"hello", headers=[("X-Api-Key", "k")], extra=[("CONTENT_TYPE", "text/x"), ("HTTPS", "on")])
    assert a.status == 200 and a.ended and a.protocol_status == fcgi.REQUEST_COMPLETE
    assert a.headers["x-request-id"].startswith("req_")
    assert a.headers["cache-control"] == "no-store"
    assert a.headers["x-content-type-options"] == "nosniff"
    assert a.headers["server-timing"].startswith("echo;dur=1.234, total;dur=")
    assert a.headers["content-length"] == str(len(a.body))
    v = a.values
    assert (v["method"], v["path"], v["query"], v["https"]) == ("POST", "/echo", "x=1", "1")
    assert v["remote_addr"] == "192.0.2.7" and v["header.x-api-key"] == "k" and v["header.content-type"] == "text/x"
    assert a.body.endswith(b"\n\nhello")


def test_headers_set_by_the_application_replace_and_order(shared):
    a = shared.ask("/head")
    assert a.status == 201 and a.headers["x-one"] == "2" and a.head.lower().count("x-one") == 1
    assert a.headers["cache-control"] == "max-age=60"
    assert a.headers["request-id"].startswith("req_") and "x-request-id" not in a.headers
    assert a.headers["server-timing"].startswith("first;dur=1.500, second;dur=0.020, total;dur=")


def test_head_gets_the_length_and_no_body(shared):
    a = shared.ask("/big?bytes=500", method="HEAD")
    assert a.status == 200 and a.headers["content-length"] == "500" and a.body == b""
    s = shared.ask("/stream?events=2", method="HEAD")
    assert s.status == 200 and s.body == b"" and s.ended


def test_no_content_has_no_length(shared):
    a = shared.ask("/empty")
    assert a.status == 204 and "content-length" not in a.headers and a.body == b""


def test_a_request_nobody_answers_is_500(shared):
    assert shared.ask("/silent").status == 500


def test_a_stream_arrives_in_pieces_and_says_so(shared):
    with shared.connect() as p:
        begun = time.monotonic()
        p.send(request("/stream?events=3&ms=300"))
        kinds, first = [], None
        while True:
            kind, _, content = p.read_record()
            if b"data: 0" in content:
                first = time.monotonic() - begun
            kinds.append((kind, content))
            if kind == END:
                break
        out = b"".join(c for k, c in kinds if k == STDOUT)
    assert first < 0.28 * SLOW
    assert b"X-Accel-Buffering: no" in out and b"Cache-Control: no-cache, no-transform" in out and b"Content-Length" not in out
    assert out.endswith(b"data: [DONE]\n\n")


def test_json_over_one_kib_is_compressed_when_accepted(shared):
    ask = lambda n, accept: shared.ask(f"/big?bytes={n}&json=1", headers=[("Accept-Encoding", accept)] if accept else [])
    a = ask(5000, "br, gzip;q=0.5")
    assert a.headers["content-encoding"] == "gzip" and a.headers["vary"] == "Accept-Encoding"
    assert len(gzip.decompress(a.body)) == 5000 and a.headers["content-length"] == str(len(a.body))
    for n, accept in ((1024, "gzip"), (5000, None), (5000, "gzip;q=0"), (5000, "br")):
        plain = ask(n, accept)
        assert "content-encoding" not in plain.headers and len(plain.body) == n
    assert "content-encoding" not in shared.ask("/big?bytes=5000", headers=[("Accept-Encoding", "gzip")]).headers


def test_the_last_byte_of_a_split_answer_waits(shared):
    with shared.connect() as p:
        p.send(request("/split?ms=300"))
        kind, _, content = p.read_record()
        assert content.endswith(b"whole answer") and kind == STDOUT
        begun = time.monotonic()
        assert p.read_record()[2] == b"\n" and time.monotonic() - begun > 0.2
        assert p.read_record()[0] == STDOUT and p.read_record()[0] == END


def test_a_split_answer_that_is_never_finished_is_cut(shared):
    with shared.connect() as p:
        a = p.send(request("/split?cut=1", keep=True)).answer()
    assert not a.ended and not a.body.endswith(b"\n") and a.headers["content-length"] == "13"


def test_big_answers_arrive_whole_at_a_slow_reader(shared):
    with shared.connect(timeout=30) as p:
        p.send(request("/big?bytes=6000000"))
        out = b""
        while True:
            chunk = p.sock.recv(30000)
            if not chunk:
                break
            out += chunk
            if len(out) < 600000:
                time.sleep(0.01)
    p2 = fcgi.Peer.__new__(fcgi.Peer)
    p2.buffer, p2.sock = out, None
    body = b""
    while p2.buffer:
        kind, _, content = p2.read_record()
        body += content if kind == STDOUT else b""
    body = body.partition(b"\r\n\r\n")[2]
    assert len(body) == 6000000 and body == (b"abcdefghijklmnopqrstuvw" * 260870)[:6000000]


def test_a_kept_connection_serves_many_requests(shared):
    with shared.connect() as p:
        for rid in (1, 1, 7, 65535, 1):
            a = p.send(request(f"/echo?n={rid}", body=b"b" * rid, rid=rid, keep=True)).answer(rid)
            assert a.status == 200 and a.ended and a.values["body_bytes"] == str(rid)
        p.send(request("/echo", rid=3, keep=False))
        assert p.answer(3).ended and p.closed()


def test_an_unkept_connection_is_closed_after_its_answer(shared):
    with shared.connect() as p:
        assert p.send(request("/echo")).answer().ended
        assert p.closed()


# --- F-50 ... F-59 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", ["ffffffffffffffff", "fffffffff0", "01ffffffff", "807fffff807fffff"])
def test_f50_parameters_that_announce_two_gib_close_the_connection(shared, lengths):
    with shared.connect() as p:
        p.send(fcgi.begin() + record(PARAMS, 1, bytes.fromhex(lengths) + b"x" * 100))
        assert p.closed(2)
    assert shared.alive() and shared.ask("/echo").status == 200


def test_f50_a_parameter_over_the_cap_is_431(shared):
    a = shared.ask("/echo", headers=[("X-Long", "v" * 70000)])
    assert a.status == 431 and "65536 bytes" in a.text


def test_f50_more_than_256_parameters_are_431(shared):
    most = [(f"X-{i}", "v") for i in range(251)]
    assert shared.ask("/echo", headers=most).status == 200
    assert shared.ask("/echo", headers=most + [("X-251", "v")]).status == 431


def test_f50_endless_parameters_are_cut_off_without_memory(shared):
    before = shared.rss_mib()
    with shared.connect() as p:
        p.send(fcgi.begin() + record(PARAMS, 1, struct.pack(">II", 0x80000001, 0x8000000A) + b"nvvvvvvvvvv"))
        piece = record(PARAMS, 1, (b"\x01\x0anvvvvvvvvvv") * 5000)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(4000):
                p.send(piece)
    assert shared.alive() and shared.rss_mib() - before < 8 * SLOW


def test_f50_a_pair_cut_by_the_end_of_the_parameters_closes(shared):
    with shared.connect() as p:
        p.send(fcgi.begin() + record(PARAMS, 1, pair("REQUEST_METHOD", "GET")[:-1]) + record(PARAMS, 1))
        assert p.closed(2)


def test_f51_another_version_closes(shared):
    for version in (0, 2, 255):
        with shared.connect() as p:
            p.send(record(BEGIN, 1, struct.pack(">HB5x", 1, 0), version=version))
            assert p.closed(2)


@pytest.mark.parametrize("role", [0, 2, 3, 77, 65535])
def test_f51_an_unknown_role_is_refused_by_the_specification(shared, role):
    with shared.connect() as p:
        a = p.send(fcgi.begin(9, role)).answer(9)
        assert a.ended and a.protocol_status == fcgi.UNKNOWN_ROLE
        assert p.closed(5)
    with shared.connect() as p:
        assert p.send(fcgi.begin(9, role, keep=True)).answer(9).protocol_status == fcgi.UNKNOWN_ROLE
        assert p.send(request("/echo", keep=True)).answer().status == 200


def test_f51_management_and_unknown_types_are_refused_and_the_connection_lives(shared):
    names = b"".join(pair(f"NAME{i}", "") for i in range(40))
    with shared.connect() as p:
        p.send(record(GET_VALUES, 0, names, padding=3))
        assert p.read_record() == (UNKNOWN, 0, bytes([GET_VALUES]) + bytes(7))
        p.send(record(99, 0))
        assert p.read_record() == (UNKNOWN, 0, bytes([99]) + bytes(7))
        assert p.send(request("/echo", keep=True)).answer().status == 200


def test_f51_get_values_inside_a_body_does_not_touch_it(shared):
    whole = request("/echo", body=b"0123456789")
    at = whole.index(b"0123456789") - 8
    for place in (at, len(whole) - 8):
        with shared.connect() as p:
            a = p.send(whole[:place] + record(GET_VALUES, 0, pair("FCGI_MAX_CONNS", "") * 40) + whole[place:]).answer()
            assert a.status == 200 and a.body.endswith(b"\n\n0123456789") and a.records[0][0] == UNKNOWN


def test_f51_a_flood_of_stray_records_is_cut_off(shared):
    with shared.connect() as p:
        try:
            p.send(record(GET_VALUES, 0) * 100000)
        except OSError:
            pass
        while p.read_record() is not None:
            pass
    assert shared.alive()


@pytest.mark.parametrize("wrong", [record(BEGIN, 0, bytes(8)), record(BEGIN, 1, bytes(7)), record(BEGIN, 1, bytes(9)),
                                   fcgi.begin() + fcgi.begin(), fcgi.begin() + record(STDIN, 1, b"x"),
                                   fcgi.begin() + record(PARAMS, 1, pair("a", "b")) + record(PARAMS, 1) + record(PARAMS, 1, b"x")])
def test_f51_records_in_the_wrong_place_close(shared, wrong):
    with shared.connect() as p:
        p.send(wrong)
        assert p.closed(2)


def test_f52_a_second_request_on_the_connection_is_refused_and_the_first_unharmed(shared):
    with shared.connect() as p:
        p.send(request("/slow?ms=300", rid=1, keep=True))
        time.sleep(0.05)
        p.send(request("/echo", rid=2, body=b"not this one", keep=True))
        a = p.answer(1)
        assert a.status == 200 and a.text == "slept\n" and a.ended
        assert (END, 2, struct.pack(">IB3x", 0, fcgi.CANT_MPX_CONN)) in a.records
        assert p.send(request("/echo", rid=4, keep=True)).answer(4).status == 200


def test_f52_also_while_the_first_is_still_being_read_and_when_sent_in_one_piece(shared):
    first, second = request("/echo", body=b"x" * 100, rid=1), request("/echo", rid=2)
    for cut in (20, 60, len(first) - 60, len(first) - 8):
        # between records only: find the next boundary
        at = 0
        while at < cut:
            at += 8 + struct.unpack(">H", first[at + 4:at + 6])[0]
        with shared.connect() as p:
            a = p.send(first[:at] + second + first[at:]).answer(1)
            assert a.status == 200 and a.body.endswith(b"x" * 100) and a.records[0][:2] == (END, 2)
    with shared.connect() as p:
        a = p.send(first + second).answer(1)
        assert a.status == 200 and a.records[0][:2] == (END, 2)


@pytest.mark.parametrize("flood", [record(STDIN, 1, b"x" * 60000), record(STDIN, 1), record(GET_VALUES, 0), record(STDIN, 9, b"y"),
                                   record(BEGIN, 5, bytes(8)), b"\x02" * 8, record(PARAMS, 1, b"z")])
def test_a_flood_while_being_served_ends_the_request_and_costs_no_cpu(shared, flood):
    gone, cpu = shared.stats()["gone"], shared.cpu_seconds()
    with shared.connect() as p:
        p.send(request("/slow?ms=4000"))
        time.sleep(0.05)
        with pytest.raises(OSError):
            begun = time.monotonic()
            while time.monotonic() - begun < 3:
                p.send(flood * 100)
    assert eventually(lambda: shared.stats()["gone"] == gone + 1, 2)
    assert shared.cpu_seconds() - cpu < 0.5 * SLOW


def test_what_follows_a_request_in_the_same_read_may_already_end_it(shared):
    with shared.connect() as p:
        a = p.send(request("/slow?ms=9000", keep=True) + record(ABORT, 1)).answer()
        assert a.ended and not a.stdout
        assert p.send(request("/echo", keep=True)).answer().status == 200


@pytest.mark.parametrize("place", ["begin", "params", "before stdin"])
def test_f53_a_stalled_head_is_closed_after_the_head_timeout(shared, place):
    whole = request("/echo", body=b"x")
    cut = {"begin": 5, "params": 40, "before stdin": whole.index(record(PARAMS, 1)) + 4}[place]
    with shared.connect() as p:
        begun = time.monotonic()
        p.send(whole[:cut])
        assert p.closed(3 * SLOW) and 0.3 * SLOW < time.monotonic() - begun < 1.5 * SLOW


def test_f53_a_head_that_dribbles_is_closed_too(shared):
    whole, begun = request("/echo"), time.monotonic()
    with shared.connect() as p:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for byte in whole:
                p.send(bytes([byte]))
                time.sleep(0.02)
    assert time.monotonic() - begun < 2 * SLOW


def test_f53_a_silent_body_is_408_and_only_that_connection_goes(shared):
    whole = request("/echo", body=b"x" * 1000)
    with shared.connect() as p, shared.connect() as other:
        begun = time.monotonic()
        p.send(whole[:-500])
        time.sleep(0.4 * SLOW)
        other.send(whole[:-600])
        a = p.answer()
        assert a.status == 408 and a.ended and 0.3 < time.monotonic() - begun < 2 * SLOW
        assert other.send(whole[-600:]).answer().status == 200


def test_f53_a_dribbling_body_costs_no_thread_and_is_408_at_its_deadline(shared):
    whole = request("/echo", body=b"x" * 200000)
    peers = [shared.connect() for _ in range(60)]
    for p in peers:
        p.send(whole[:-100000])
    cpu, begun = shared.cpu_seconds(), time.monotonic()
    for i in range(6):
        time.sleep(0.1)
        for p in peers:
            p.send(whole[-100000 + i:-100000 + i + 1])
        assert shared.stats()["busy"] == 1
    assert shared.stats()["threads"] < 12 and shared.cpu_seconds() - cpu < 0.3 * SLOW
    assert shared.stats()["body_bytes"] >= 60 * 100000
    while time.monotonic() - begun < 1.6 * SLOW:  # never silent for long, yet the body's own deadline ends it
        time.sleep(0.2)
        for p in peers:
            try:
                p.send(b"x")
            except OSError:
                pass
    assert [p.answer().status for p in peers] == [408] * 60
    for p in peers:
        p.close()


@pytest.mark.parametrize("body, length, status, says", [
    (b"12345", 6, 400, "body is 5 bytes but its content length is 6"),
    (b"12345", 4, 400, "longer than its content length of 4"),
    (b"", 4, 400, "body is 0 bytes"),
    (b"12345", 0, 400, "longer than its content length of 0"),
    (b"x" * 300000, 299999, 400, "longer"),
    (b"x" * 299999, 300000, 400, "299999"),
    (b"12345", "five", 400, "not a number"),
    (b"12345", "-5", 400, "not a number"),
    (b"12345", "+5", 400, "not a number"),
    (b"12345", "5 ", 400, "not a number"),
    (b"12345", "0x5", 400, "not a number"),
    (b"12345", "99999999999999999999999", 400, "not a number"),
    (b"12345", 10**15, 413, "longer than"),
    (b"12345", 5, 200, ""),
    (b"12345", "", 200, ""),
])
def test_f54_the_body_and_its_length_must_agree(shared, body, length, status, says):
    a = shared.ask("/echo", body=body, length=length)
    assert a.status == status and says in a.text and a.ended


def test_f54_a_body_without_a_length_is_taken_up_to_the_limit(shared):
    a = shared.ask("/small", method="POST", body=b"c" * 1000, length="")
    assert a.status == 200 and a.values["body_bytes"] == "1000"
    assert shared.ask("/small", method="POST", body=b"c" * 1001, length="").status == 413


@pytest.mark.parametrize("padding", [0, 1, 255])
@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 200000])
def test_f55_the_longest_records_with_the_longest_padding(shared, size, padding):
    body = os.urandom(size)
    a = shared.ask("/echo", body=body, padding=padding)
    assert a.status == 200 and a.body.partition(b"\n\n")[2] == body


def test_f55_records_split_at_every_byte(shared):
    whole = request("/echo", body=b"payload", padding=2, piece=3, keep=True)
    expected = None
    with shared.connect() as p:
        for cut in range(1, len(whole)):
            p.send(whole[:cut])
            time.sleep(0.0005)
            p.send(whole[cut:])
            a = p.answer()
            v = a.values
            assert a.status == 200 and a.body.endswith(b"\n\npayload"), cut
            assert expected in (None, v)
            expected = v


def test_f55_one_byte_records(shared):
    a = shared.ask("/echo", body=b"one byte at a time", piece=1, padding=255)
    assert a.status == 200 and a.body.endswith(b"one byte at a time")
    params = b"".join(pair(n, v) for n, v in fcgi.variables("/echo"))
    with shared.connect() as p:
        a = p.send(fcgi.begin() + stream(PARAMS, 1, params, piece=1, padding=7) + record(STDIN, 1)).answer()
        assert a.status == 200


def test_f56_a_body_of_records_is_data(shared):
    body = (request("/evil", rid=1) + record(END, 1, bytes(8)) + record(ABORT, 1)) * 500
    a = shared.ask("/echo", body=body, piece=65535)
    assert a.status == 200 and a.body.partition(b"\n\n")[2] == body


def test_f57_abort_while_being_served_is_a_caller_who_left_and_is_ended(shared):
    gone = shared.stats()["gone"]
    with shared.connect() as p:
        p.send(request("/slow?ms=5000", keep=True))
        time.sleep(0.1)
        begun = time.monotonic()
        a = p.send(record(ABORT, 1)).answer()
        assert a.ended and a.protocol_status == fcgi.REQUEST_COMPLETE and time.monotonic() - begun < 1 * SLOW
        assert p.send(request("/echo", keep=True, rid=2)).answer(2).status == 200
    assert shared.stats()["gone"] == gone + 1


def test_f57_abort_in_the_middle_of_a_stream(shared):
    with shared.connect() as p:
        p.send(request("/stream?events=1000&ms=20"))
        assert p.read_record()[0] == STDOUT
        a = p.send(record(ABORT, 1)).answer()
        assert a.ended and b"[DONE]" not in a.stdout


def test_f57_abort_before_the_request_is_complete(shared):
    whole = request("/echo", body=b"x" * 10, keep=True)
    for cut in (16, len(whole) - 26, len(whole) - 8):
        with shared.connect() as p:
            a = p.send(whole[:cut] + record(ABORT, 1)).answer()
            assert a.ended and not a.stdout
            assert p.send(request("/echo", rid=2, keep=True)).answer(2).status == 200


def test_f58_a_peer_that_never_reads_is_given_up(shared):
    gone = shared.stats()["gone"]
    with shared.connect() as p:
        p.send(request("/stream?events=100000&bytes=5000"))
        begun = time.monotonic()
        assert eventually(lambda: shared.stats()["gone"] > gone, 5 * SLOW)
        assert time.monotonic() - begun > 0.3


def test_f59_connections_without_a_byte_cost_nothing_and_are_dropped():
    with gate("head-ms", 1500, "connections", 12000, nofile=16384) as g:
        import resource
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
        count = min(10000, min(hard, 16384) - 200)
        begun = time.monotonic()
        peers = [g.connect() for _ in range(count)]
        assert g.ask("/echo").status == 200
        assert time.monotonic() - begun < 20 * SLOW
        assert g.stats()["threads"] < 10
        assert eventually(lambda: g.stats()["parked"] == 0, 10 * SLOW, 0.2), g.stats()
        for p in peers:
            p.close()
        assert g.alive()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- beyond the catalogue ------------------------------------------------------------------------------------------------


def test_300_peers_stalled_at_each_byte_of_a_head_cost_no_cpu_and_no_thread():
    whole = request("/echo", body=b"x" * 40)
    with gate("head-ms", 60000, "silence-ms", 60000, "floor-ms", 60000) as g:
        peers = []
        for i in range(300):
            p = g.connect()
            p.send(whole[:i % len(whole)])
            peers.append((p, i % len(whole)))
        time.sleep(0.3)
        threads, cpu = g.stats()["threads"], g.cpu_seconds()
        time.sleep(2)
        assert g.cpu_seconds() - cpu <= 0.05 * SLOW
        assert g.stats()["threads"] <= max(threads, 8)
        assert g.ask("/echo").status == 200
        for p, cut in peers:
            assert p.send(whole[cut:]).answer().status == 200
            p.close()


def test_idle_kept_connections_cost_no_thread_and_close_at_their_limit():
    with gate("idle-ms", 2000, "head-ms", 500) as g:
        peers = [g.connect() for _ in range(100)]
        for p in peers:
            assert p.send(request("/echo", keep=True)).answer().status == 200
        assert eventually(lambda: g.stats()["parked"] == 100, 0.5)
        s = g.stats()
        assert s["busy"] == 1 and s["threads"] < 8
        time.sleep(0.9 * SLOW)
        assert g.stats()["parked"] == 100  # past the head timeout, and not closed: the idle limit is the one that counts
        assert eventually(lambda: g.stats()["parked"] == 0, 4 * SLOW)
        for p in peers:
            p.close()


def test_descriptors_run_out_and_come_back():
    with gate("threads", 16, "head-ms", 60000, nofile=96) as g:
        held = [g.connect() for _ in range(150)]  # what does not fit waits in the kernel's queue
        assert eventually(lambda: "accepting is paused" in g.log(), 5)
        cpu = g.cpu_seconds()
        time.sleep(1)
        assert g.cpu_seconds() - cpu < 0.2 * SLOW and g.alive()
        for p in held[:100]:
            p.close()
        assert eventually(lambda: g.ask("/echo", timeout=3).status == 200, 5)
        late = held[149]
        assert late.send(request("/echo")).answer().status == 200
        for p in held:
            p.close()


def test_slots_run_out_and_come_back():
    with gate("connections", 20, "head-ms", 60000) as g:
        held = [g.connect() for _ in range(30)]
        assert eventually(lambda: "all connection slots are taken" in g.log(), 5)
        held[29].send(request("/echo"))
        for p in held[:15]:
            p.close()
        assert held[29].answer().status == 200
        for p in held:
            p.close()


def test_threads_are_added_on_demand_and_requests_run_side_by_side():
    with gate("threads", 64) as g:
        assert g.stats()["threads"] <= 3
        peers = [g.connect() for _ in range(40)]
        begun = time.monotonic()
        for p in peers:
            p.send(request(f"/deaf?ms={int(1000 * SLOW)}"))
        assert all(p.answer().status == 200 for p in peers)
        assert time.monotonic() - begun < 2.5 * SLOW
        assert 40 <= g.stats()["peak_threads"] <= 44


def test_threads_without_work_leave_and_free_what_they_kept():
    with gate("threads", 64, "thread-idle-ms", 500) as g:
        peers = [g.connect() for _ in range(30)]
        for p in peers:
            p.send(request("/deaf?ms=300"))
        assert all(p.answer().status == 200 for p in peers)
        assert eventually(lambda: g.stats()["threads"] <= 6, 4 * SLOW, 0.2)
        assert g.stats()["slots_freed"] >= 24
        assert g.ask("/echo").status == 200


def test_the_last_thread_that_waits_stays_while_all_others_serve():
    with gate("threads", 64, "thread-idle-ms", 300) as g:
        busy = [g.connect() for _ in range(4)]
        for p in busy:
            p.send(request("/deaf?ms=4000"))
        time.sleep(1.2)  # several times longer than a thread waits for work
        begun = time.monotonic()
        assert g.ask("/echo").status == 200 and time.monotonic() - begun < 2.5
        assert all(p.answer().status == 200 for p in busy)


def test_the_last_tenth_of_the_threads_answers_what_is_reserved_and_refuses_the_rest():
    with gate("threads", 20) as g:
        busy = [g.connect() for _ in range(18)]
        for p in busy:
            p.send(request(f"/deaf?ms={int(1500 * SLOW)}"))
        assert eventually(lambda: g.stats()["busy"] == 19, 1.2 * SLOW)
        begun = time.monotonic()
        a = g.ask("/echo")
        assert a.status == 503 and a.headers["retry-after"] == "1" and "all threads are busy" in a.text
        assert g.ask("/health").status == 200 and time.monotonic() - begun < 0.5 * SLOW
        assert all(p.answer().status == 200 for p in busy)
        assert g.ask("/echo").status == 200


def test_processes_of_one_thread_share_a_socket_evenly(tmp_path):
    import subprocess
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    procs = [subprocess.Popen([ECHO, "--threads", "1"], stdin=listener, stderr=subprocess.DEVNULL) for _ in range(4)]
    try:
        for p in [fcgi.Peer(path) for _ in range(8)]:  # all are up when each has answered
            p.send(request("/deaf?ms=50")).answer()
        took = []
        for _ in range(5):  # a connection may be taken before its request is there, so one round can be unlucky
            begun = time.monotonic()
            peers = [fcgi.Peer(path).send(request("/deaf?ms=400")) for _ in range(4)]
            assert [p.answer().status for p in peers] == [200] * 4
            took.append(time.monotonic() - begun)
        assert min(took) < 0.75 * SLOW, took  # side by side: nobody took a second one while another was idle
    finally:
        for p in procs:
            p.kill()
            p.wait()
        listener.close()


def test_one_thread_serves_one_request_at_a_time():
    with gate("threads", 1) as g:
        peers = [g.connect() for _ in range(5)]
        for p in peers:
            p.send(request("/deaf?ms=60"))
        begun = time.monotonic()
        assert [p.answer().status for p in peers] == [200] * 5
        assert time.monotonic() - begun > 0.25 and g.stats()["peak_threads"] == 1


@pytest.mark.parametrize("leave", ["close", "reset", "half"])
def test_a_caller_who_leaves_is_noticed_at_once(shared, leave):
    gone = shared.stats()["gone"]
    with shared.connect() as p:
        p.send(request("/slow?ms=8000"))
        time.sleep(0.05)
        p.sock.shutdown(socket.SHUT_WR) if leave == "half" else p.reset() if leave == "reset" else p.close()
        assert eventually(lambda: shared.stats()["gone"] == gone + 1, 1 * SLOW)


def test_a_caller_who_leaves_in_the_middle_of_anything_leaves_nothing_behind(shared):
    whole = request("/echo", body=b"x" * 300)
    for cut in range(0, len(whole), 7):
        with shared.connect() as p:
            p.send(whole[:cut])
    quiet(shared)


def test_a_body_too_long_is_413_after_its_bytes_were_taken(shared):
    a = shared.ask("/small", body=b"x" * 3000000)
    assert a.status == 413 and a.ended and "longer than the 1000" in a.text
    with shared.connect() as p:  # and the connection can be kept
        assert p.send(request("/small", body=b"x" * 1001, keep=True)).answer().status == 413
        assert p.send(request("/small", body=b"x" * 1000, keep=True)).answer().status == 200


def test_a_refused_path_reads_the_body_first(shared):
    with shared.connect() as p:
        assert p.send(request("/nowhere", body=b"x" * 2000000, keep=True)).answer().status == 404
        assert p.send(request("/echo", keep=True)).answer().status == 200


def test_an_endless_refused_body_is_answered_after_a_bounded_part():
    with gate("body-max", 1000) as g, g.connect(timeout=30) as p:
        answers = []
        reader = threading.Thread(target=lambda: answers.append(p.answer()))
        whole = request("/echo", body=b"", length=10**12)[:-8]
        p.send(whole)
        reader.start()
        piece, sent = record(STDIN, 1, b"z" * 65535), 0
        begun = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - begun < 20:
                p.send(piece)
                sent += len(piece)
        reader.join(10)
        assert answers[0].status == 413 and answers[0].ended
        assert 64 * 2**20 < sent and g.stats()["busy"] == 1


def test_memory_of_all_bodies_together_is_capped():
    with gate("body-memory", 3 << 20, "silence-ms", 3000) as g:
        big = request("/echo", body=b"x" * 2000000)
        with g.connect() as first:
            first.send(big[:-10])
            assert eventually(lambda: g.stats()["body_bytes"] >= 2000000, 2)
            a = g.ask("/echo", body=b"y" * 2000000)
            assert a.status == 503 and "retry-after" in a.headers
            assert g.ask("/echo", body=b"y" * 500000).status == 200
            assert first.send(big[-10:]).answer().status == 200
        quiet(g)
        assert g.ask("/echo", body=b"y" * 2000000).status == 200


# --- the edge contract: what two layers could read differently -------------------------------------------------------------


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "Host", "Content-Type", "Content-Length", "Idempotency-Key", "X-Headgate-Tag"])
def test_f68_a_header_that_must_be_single_is_refused_when_repeated(shared, name):
    a = shared.ask("/echo", headers=[(name, "1"), (name, "1")])
    assert a.status == 400 and f"header {name.lower()} is repeated" in a.text and f"param={name.lower()}" in a.text


@pytest.mark.parametrize("name", ["CONTENT_LENGTH", "CONTENT_TYPE", "REQUEST_METHOD", "REQUEST_URI", "REMOTE_ADDR", "SERVER_NAME", "ANYTHING"])
def test_f68_a_repeated_variable_is_refused(shared, name):
    a = shared.ask("/echo", body=b"12345", length="", extra=[(name, "5"), (name, "5")])
    assert a.status == 400 and f"variable {name} is repeated" in a.text


def test_f68_other_headers_are_joined(shared):
    v = shared.ask("/echo", headers=[("X-Tag", "a"), ("Cookie", "a=1"), ("X-Tag", "b"), ("Cookie", "b=2"), ("X-Tag", "c")]).values
    assert v["header.x-tag"] == "a, b, c" and v["header.cookie"] == "a=1; b=2"


def test_f68_a_comma_in_authorization_is_refused(shared):
    a = shared.ask("/echo", headers=[("Authorization", "Bearer one, Bearer two")])
    assert a.status == 400 and "param=authorization" in a.text
    assert "header.authorization" not in shared.ask("/echo", extra=[("REDIRECT_HTTP_AUTHORIZATION", "Bearer x")]).text


@pytest.mark.parametrize("byte", [b"\r", b"\n", b"\0", b"\x01", b"\x1b", b"\x7f"])
def test_f68_control_characters_are_refused(shared, byte):
    assert shared.ask("/echo", headers=[("X-Tag", b"a" + byte + b"b")]).status == 400
    assert shared.ask("/echo", extra=[("CONTENT_TYPE", b"text/plain" + byte)]).status == 400
    assert shared.ask(b"/echo?a=" + byte if False else "/echo?a=" + byte.decode()).status == 400


def test_f67_the_proxy_header_is_a_header_and_nothing_else(shared):
    assert shared.ask("/echo", headers=[("Proxy", "http://evil:1")]).values["header.proxy"] == "http://evil:1"


@pytest.mark.parametrize("target, status", [
    ("/echo", 200), ("/echo?x=//..", 200), ("/echo?%00", 200), ("http://host/echo", 200), ("https://host:1/echo?a", 200),
    ("//echo", 404), ("/a//b", 404), ("/echo/", 404), ("/ECHO", 404), ("/echo.", 404), ("/echo;a=b", 404), ("/a%2Fb", 404), ("/", 404),
    ("/./echo", 400), ("/a/../echo", 400), ("/%2e%2e/echo", 400), ("/.%2E/echo", 400), ("/%2e", 400), ("/a/..", 400),
    ("/a%00b", 400), ("/a%", 400), ("/a%4", 400), ("/a%zz", 400), ("/a%0ab", 400), ("/a%ff", 400), ("/a%c0%af", 400), ("/a%ed%a0%80", 400),
    ("/a b", 400), ("/a#b", 400), ("echo", 400), ("*", 400), ("", 400), ("/é", 404), ("/" + "a" * 17000, 414),
])
def test_f100_path_tricks_are_decided_once(shared, target, status):
    assert shared.ask(target).status == status


def test_a_request_without_method_or_target_is_refused(shared):
    for skip in ("REQUEST_METHOD", "REQUEST_URI"):
        params = b"".join(pair(n, v) for n, v in fcgi.variables() if n != skip)
        with shared.connect() as p:
            a = p.send(fcgi.begin() + stream(PARAMS, 1, params) + record(STDIN, 1)).answer()
            assert a.status == 400 and skip in a.text
    for method in ("get", "G E T", "GET\0", "", "A" * 17):
        params = b"".join(pair(n, v) for n, v in fcgi.variables(method=method))
        with shared.connect() as p:
            assert p.send(fcgi.begin() + stream(PARAMS, 1, params) + record(STDIN, 1)).answer().status == 400, method


# --- signals and drain -------------------------------------------------------------------------------------------------------


def test_sigterm_drains_running_and_kept_connections():
    with gate() as g:
        kept, running, streaming = g.connect(), g.connect(), g.connect()
        assert kept.send(request("/echo", keep=True)).answer().status == 200
        time.sleep(0.1)
        running.send(request("/slow?ms=4000", keep=True))
        streaming.send(request("/stream?events=10&ms=100", keep=True))
        time.sleep(0.2)
        g.proc.send_signal(signal.SIGTERM)
        time.sleep(1.5)  # longer than the quiet second: others are still under way, so kept ones stay
        a = kept.send(request("/echo?late", keep=True)).answer()
        assert a.status == 200 and kept.closed(2)
        assert b"[DONE]" in streaming.answer().stdout
        assert running.answer().text == "slept\n" and running.closed(2)
        assert g.wait_exit(5 * SLOW) == 0


def test_a_drain_with_idle_connections_ends_after_a_quiet_second():
    with gate() as g:
        kept = g.connect()
        assert kept.send(request("/echo", keep=True)).answer().status == 200
        time.sleep(0.2)
        begun = time.monotonic()
        g.proc.send_signal(signal.SIGTERM)
        assert g.wait_exit(4 * SLOW) == 0 and 0.9 < time.monotonic() - begun
        assert kept.closed(1)


def test_a_drain_that_runs_out_of_time_says_so():
    with gate("drain-ms", 500) as g:
        assert g.ask("/echo").status == 200  # it has taken its signals
        p = g.connect()
        p.send(request("/slow?ms=60000"))
        time.sleep(0.1)
        begun = time.monotonic()
        g.proc.send_signal(signal.SIGTERM)
        assert g.wait_exit(6 * SLOW) == 1 and time.monotonic() - begun < 4 * SLOW


def test_a_second_sigterm_hurries():
    with gate("drain-ms", 60000) as g:
        assert g.ask("/echo").status == 200  # it has taken its signals
        p = g.connect()
        p.send(request("/slow?ms=60000"))
        time.sleep(0.1)
        begun = time.monotonic()
        g.proc.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        g.proc.send_signal(signal.SIGINT)
        assert g.wait_exit(12) == 1 and 4.5 < time.monotonic() - begun < 9 * SLOW


def test_a_request_half_read_when_the_drain_begins_is_still_answered():
    whole = request("/echo", body=b"x" * 100)
    with gate() as g:
        p = g.connect()
        p.send(whole[:-50])
        time.sleep(0.1)
        g.proc.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert p.send(whole[-50:]).answer().status == 200
        assert g.wait_exit(5) == 0


def test_restarts_behind_a_held_socket_lose_nothing(tmp_path):
    """As under a systemd socket unit: the socket outlives the processes; callers come all the time, kept and unkept."""
    import subprocess
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(256)
    start = lambda: subprocess.Popen([ECHO], stdin=listener, stderr=subprocess.DEVNULL)
    proc, stop, wrong, served = start(), threading.Event(), [], [0]

    def caller(n):
        peer = None
        while not stop.is_set():
            peer = peer or fcgi.Peer(path)
            try:
                a = peer.send(request("/slow?ms=5", keep=n % 2 == 0)).answer()
            except BrokenPipeError:  # closed between two requests, before a byte of the next went out: a web server tries anew
                peer = None
                continue
            if not a.ended and not a.stdout and n % 2 == 0 and served[0]:
                peer = None  # the same race, seen while reading
                continue
            served[0] += 1
            if not a.ended or a.status != 200:
                wrong.append(a.stdout)
            if n % 2 or not a.ended:
                peer.close()
                peer = None

    callers = [threading.Thread(target=caller, args=(n,)) for n in range(8)]
    for t in callers:
        t.start()
    for _ in range(4):
        time.sleep(0.4)
        old, proc = proc, start()
        old.send_signal(signal.SIGTERM)
        assert old.wait(5 * SLOW) == 0
    stop.set()
    for t in callers:
        t.join()
    proc.kill()
    proc.wait()
    listener.close()
    assert not wrong and served[0] > 300


def test_hangup_reloads_and_usr1_reopens(tmp_path):
    note = tmp_path / "note"
    with gate("note", note) as g:
        assert g.ask("/echo").status == 200
        g.proc.send_signal(signal.SIGHUP)
        assert eventually(lambda: note.exists() and note.read_text() == "reload\n", 3)
        g.proc.send_signal(signal.SIGUSR1)
        assert eventually(lambda: note.read_text() == "reload\nreopen\n", 3)
        assert g.ask("/echo").status == 200 and g.stats()["ticks"] < 10


def test_signals_during_work_disturb_nothing(tmp_path):
    with gate("note", tmp_path / "note") as g:
        assert g.ask("/echo").status == 200
        p = g.connect()
        p.send(request("/stream?events=30&ms=10"))
        for _ in range(30):
            g.proc.send_signal(signal.SIGUSR1)
            time.sleep(0.01)
        assert b"[DONE]" in p.answer().stdout


def test_without_a_listening_socket_it_says_how_to_start(tmp_path):
    import subprocess
    r = subprocess.run([ECHO], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert r.returncode == 78 and "spawn-fcgi" in r.stderr


def test_a_tcp_socket_serves_as_well(tmp_path):
    import subprocess
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        port = listener.getsockname()[1]
        proc = subprocess.Popen([ECHO], stdin=listener, stderr=subprocess.DEVNULL)
    try:
        p = fcgi.Peer.__new__(fcgi.Peer)
        p.sock, p.buffer = socket.create_connection(("127.0.0.1", port), 5), b""
        body = os.urandom(3000000)
        begun = time.monotonic()
        for n in range(20):
            assert p.send(request("/echo", body=b"small", keep=True)).answer().status == 200
        assert time.monotonic() - begun < 0.5 * SLOW  # no 40 ms of Nagle against delayed acknowledgements
        assert p.send(request("/echo", body=body, keep=True)).answer().body.endswith(body)
        assert p.send(request("/small", body=body)).answer().status == 413  # the answer is not lost to a reset
        p.close()
    finally:
        proc.kill()
        proc.wait()


def test_a_socket_from_systemd_is_taken(tmp_path):
    import subprocess
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(8)
    proc = subprocess.Popen(["/bin/sh", "-c", f'exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "{ECHO}"'], stdin=listener,
                            stderr=subprocess.DEVNULL)
    try:
        with fcgi.Peer(path) as p:
            assert p.send(request("/echo")).answer().status == 200
    finally:
        proc.kill()
        proc.wait()
        listener.close()


# --- stress ------------------------------------------------------------------------------------------------------------------


def test_parallel_stress_with_every_kind_of_caller():
    """Good, slow, dribbling, aborting and vanishing peers at once; every good one gets exactly its own answer."""
    seconds = float(os.environ.get("HEADGATE_STRESS_SECONDS", "4"))
    until, errors, served = time.monotonic() + seconds, [], [0]
    with gate("threads", 40, "head-ms", 800, "silence-ms", 800, "idle-ms", 2500) as g:

        def good(n):
            while time.monotonic() < until:
                with g.connect(timeout=30) as p:
                    for i in range(n % 5 + 1):
                        body = os.urandom((n * 7919 + i * 104729) % 150000)
                        a = p.send(request("/echo", body=body, keep=True, padding=n % 256)).answer()
                        if a.status == 503:
                            continue
                        if a.status != 200 or a.body.partition(b"\n\n")[2] != body:
                            errors.append((n, a.status))
                        served[0] += 1

        def bad(n):
            whole, i = request("/echo", body=b"x" * 5000, keep=True), n
            while time.monotonic() < until:
                i += 1
                try:
                    with g.connect(timeout=30) as p:
                        kind = i % 6
                        if kind == 0:
                            p.send(whole[:i * 31 % len(whole)])
                        elif kind == 1:
                            p.send(request("/stream?events=50&ms=1"))
                            p.read_record()
                        elif kind == 2:
                            p.send(request("/slow?ms=300", keep=True) + record(ABORT, 1))
                            p.answer()
                        elif kind == 3:
                            p.send(request("/slow?ms=20", keep=True) + request("/echo", rid=2))
                            p.answer()
                        elif kind == 4:
                            p.send(os.urandom(100))
                        else:
                            p.send(whole[:300])
                            time.sleep(0.01)
                            p.send(whole[300:])
                            p.answer()
                except OSError:
                    pass

        threads = [threading.Thread(target=f, args=(n,)) for n in range(12) for f in (good, bad)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not errors and served[0] > 100, (errors[:5], served)
        assert g.alive(), g.log()
        quiet(g)
        g.proc.send_signal(signal.SIGTERM)
        assert g.wait_exit(20) == 0, g.log()
