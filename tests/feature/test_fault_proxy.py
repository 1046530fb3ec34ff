# SPDX-License-Identifier: Apache-2.0
"""The fault proxy does what it is told: what later tests conclude from it stands on this."""
import contextlib
import os
import socket
import struct
import tempfile
import threading
import time

import pytest

from fault_proxy import FaultProxy
from stack import free_port, wait_for


class Echo:
    """Sends back what comes; ends when its peer does."""

    def __init__(self, listener):
        self.listener = listener
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                threading.Thread(target=self.converse, args=(sock,), daemon=True).start()

    @staticmethod
    def converse(sock):
        with contextlib.suppress(OSError), sock:
            while (piece := sock.recv(65536)):
                sock.sendall(piece)


@pytest.fixture(params=["tcp", "unix"])
def place(request):
    with tempfile.TemporaryDirectory(prefix="fault-") as directory:
        if request.param == "tcp":
            listener = socket.create_server(("127.0.0.1", 0))
            addresses = f"127.0.0.1:{free_port()}", "127.0.0.1:%d" % listener.getsockname()[1]
        else:
            addresses = os.path.join(directory, "front"), os.path.join(directory, "back")
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(addresses[1])
            listener.listen(16)
        Echo(listener)
        proxy = FaultProxy(*addresses, seed=7)
        proxy.front, proxy.back = addresses
        yield proxy
        proxy.close()
        listener.close()


def dial(place):
    if place.front.startswith("/"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(place.front)
        return sock
    host, port = place.front.split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def read(sock, n):
    data = b""
    while len(data) < n and (piece := sock.recv(n - len(data))):
        data += piece
    return data


def echoed(sock, data=b"hello"):
    sock.sendall(data)
    return read(sock, len(data))


def test_bytes_pass_unchanged_and_are_counted(place):
    data = os.urandom(300_000)
    with dial(place) as sock:
        threading.Thread(target=sock.sendall, args=(data,), daemon=True).start()
        assert read(sock, len(data)) == data
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    stats = place.stats()
    assert (stats["accepted"], stats["up"], stats["down"]) == (1, len(data), len(data))
    assert wait_for(lambda: place.stats()["open"] == 0)


def test_latency_is_of_the_direction_told(place):
    with dial(place) as sock:
        place.tell("set down latency 300")
        began = time.monotonic()
        assert echoed(sock) == b"hello" and time.monotonic() - began >= 0.3
        place.tell("clear", "set down rate 1000")
        began = time.monotonic()
        assert echoed(sock, b"x" * 400) == b"x" * 400 and time.monotonic() - began >= 0.4


def test_slices_arrive_one_by_one(place):
    place.tell("set down slice 1")
    with dial(place) as sock:
        sock.sendall(b"x" * 40)
        pieces = [sock.recv(100)]
        while sum(map(len, pieces)) < 40:
            pieces.append(sock.recv(100))
    assert len(pieces) > 1, "the answer came in one piece"


def test_corruption_is_the_same_for_the_same_seed(place):
    place.tell("set down corrupt 10")
    with dial(place) as sock:
        got = echoed(sock, bytes(1000))
    spoilt = sum(byte != 0 for byte in got)
    assert 50 <= spoilt <= 200 and place.stats()["corrupted"] == spoilt
    front = f"127.0.0.1:{free_port()}" if ":" in place.front else place.front + "2"
    other = FaultProxy(front, place.back, seed=7)
    try:
        other.front = front
        other.tell("set down corrupt 10")
        with dial(other) as sock:
            assert echoed(sock, bytes(1000)) == got
    finally:
        other.close()


def test_a_limit_and_a_reset_cut(place):
    place.tell("set down limit 100")
    with dial(place) as sock:
        sock.sendall(b"x" * 200)
        with contextlib.suppress(ConnectionResetError):
            assert len(read(sock, 200)) <= 100
    place.tell("clear")
    with dial(place) as sock:
        assert echoed(sock) == b"hello"
        place.tell("reset")
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
    assert place.stats()["cuts"] == 2


def test_a_hole_swallows_until_it_is_closed_and_a_drop_for_ever(place):
    with dial(place) as sock:
        place.tell("set up hole 1")
        sock.sendall(b"hello")
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        place.tell("clear")
        sock.settimeout(10)
        assert read(sock, 5) == b"hello"
        place.tell("drop")
        sock.sendall(b"again")
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_refused_and_let_in_again(place):
    place.tell("refuse 1")
    with pytest.raises(OSError):
        dial(place)
    place.tell("refuse 0")
    with dial(place) as sock:
        assert echoed(sock) == b"hello"


def test_a_half_close_ends_one_direction(place):
    with dial(place) as sock:
        assert echoed(sock) == b"hello"
        place.tell("half-close down")
        assert sock.recv(1) == b""


def message(kind, body):
    return kind + struct.pack("!I", len(body) + 4) + body


def test_only_the_word_of_a_commit_is_late(place):
    begin, commit = message(b"C", b"BEGIN\0"), message(b"C", b"COMMIT\0") + message(b"Z", b"I")
    place.tell("commit-delay 400", "set down slice 3")
    with dial(place) as sock:
        began = time.monotonic()
        assert echoed(sock, b"N" + message(b"R", bytes(4)) + begin)
        assert place.stats()["commits"] == 0
        sock.sendall(commit)
        assert read(sock, 11) == commit[:11]  # the rest of the message waits
        assert read(sock, len(commit) - 11) == commit[11:] and time.monotonic() - began >= 0.4
        assert place.stats()["commits"] == 1
        place.tell("commit-cut 1")
        sock.sendall(commit)
        with contextlib.suppress(ConnectionResetError):
            assert len(read(sock, len(commit))) < len(commit)


def test_an_unknown_line_is_an_error(place):
    for line in ("set sideways latency 1", "set up latency x", "jump", "half-close left"):
        with pytest.raises(AssertionError, match="error not understood"):
            place.tell(line)
