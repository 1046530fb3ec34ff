# SPDX-License-Identifier: Apache-2.0
"""A caller of the gateway: plain HTTP/1.1 on sockets, so that tests can send what libraries would not and leave when they like."""
import contextlib
import http.client
import json
import socket
import struct
import time


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def header(self, name):
        values = [v for n, v in self.headers if n.lower() == name.lower()]
        return ", ".join(values) if values else None

    def json(self):
        return json.loads(self.body)

    @property
    def request_id(self):
        return self.header("x-request-id")

    def events(self):
        return list(parse_events(self.body.decode()))

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


def parse_events(text):
    """The data of each event; comments are left out."""
    for block in text.replace("\r\n", "\n").split("\n\n"):
        data = [line[5:].lstrip(" ") for line in block.split("\n") if line.startswith("data:")]
        if data:
            yield "\n".join(data)


class Stream:
    """An answer that arrives piece by piece. Reads chunked bodies, bodies of a told length (a web server that has all of a short
    stream at once tells it), and bodies up to the end of the connection."""

    def __init__(self, sock):
        self.socket = sock
        self.file = sock.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = []
        while (line := self.file.readline().strip()):
            name, _, value = line.decode("latin-1").partition(":")
            self.headers.append((name.strip(), value.strip()))
        self.chunked = (self.header("transfer-encoding") or "").lower() == "chunked"
        self.left = None if self.chunked else self.header("content-length")
        self.clean_end = None  # chunked: whether the last chunk came

    header = Answer.header
    request_id = Answer.request_id

    def plain_pieces(self):
        left = None if self.left is None else int(self.left)
        while left is None or left > 0:
            piece = self.file.read1(65536 if left is None else min(left, 65536))
            if not piece:
                return
            left = None if left is None else left - len(piece)
            yield piece

    def pieces(self):
        if not self.chunked:
            yield from self.plain_pieces()
            return
        while True:
            size = self.file.readline()
            if not size:
                self.clean_end = False
                return
            count = int(size.split(b";")[0], 16)
            piece = self.file.read(count)
            self.file.readline()
            if count == 0:
                self.clean_end = True
                return
            yield piece

    def lines(self):
        rest = b""
        for piece in self.pieces():
            *whole, rest = (rest + piece).split(b"\n")
            yield from (line.rstrip(b"\r").decode() for line in whole)

    def events(self):
        for line in self.lines():
            if line.startswith("data:"):
                yield line[5:].strip()

    def read(self):
        return b"".join(self.pieces())

    def leave(self, reset=False):
        """Close; with reset the peer gets RST instead of FIN."""
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.file.close()
        self.socket.close()


class Client:
    def __init__(self, host, port, key):
        self.host, self.port, self.key = host, port, key

    def headers(self, extra=None):
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        headers.update(extra or {})
        return {name: value for name, value in headers.items() if value is not None}

    def request(self, method, path, body=None, headers=None, timeout=120):
        headers = self.headers(headers)
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, body, **options):
        return self.request("POST", path, body, **options)

    def chat(self, model="sim-chat", content="Hello!", headers=None, **fields):
        body = {"model": model, "messages": [{"role": "user", "content": content}], **fields}
        return self.post("/v1/chat/completions", body, headers=headers)

    def send(self, head, body=b"", timeout=120):
        """Raw bytes; head lines without Host, which is added."""
        sock = socket.create_connection((self.host, self.port), timeout=timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = head.replace("\n", "\r\n").encode("latin-1") + b"\r\nHost: test\r\n\r\n"
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # an early refusal: the answer is there to read
            sock.sendall(head + body)
        return sock

    def raw(self, head, body=b""):
        """Send raw bytes, read the answer to the end of the connection or of the body."""
        sock = self.send(head + "\nConnection: close", body, timeout=90)
        try:
            stream = Stream(sock)
            return Answer(stream.status, stream.headers, stream.read())
        finally:
            sock.close()

    def stream(self, model="sim-chat", content="Hello!", timeout=120, headers=None, **fields):
        body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": content}], **fields}).encode()
        lines = ["POST /v1/chat/completions HTTP/1.1", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers(headers).items()]
        return Stream(self.send("\n".join(lines), body, timeout))


def timed(events):
    """(seconds since now, event) as they come."""
    start = time.monotonic()
    for event in events:
        yield time.monotonic() - start, event
