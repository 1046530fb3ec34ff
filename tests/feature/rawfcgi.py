# SPDX-License-Identifier: Apache-2.0
"""A small FastCGI client that can also misbehave: it speaks for the web server in the tests of the gate."""
import os
import resource
import signal
import socket
import struct
import subprocess
import tempfile
import time

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, DATA, GET_VALUES, GET_VALUES_RESULT, UNKNOWN = range(1, 12)
REQUEST_COMPLETE, CANT_MPX_CONN, OVERLOADED, UNKNOWN_ROLE = range(4)


def record(kind, rid, content=b"", padding=0, version=1):
    return struct.pack(">BBHHBB", version, kind, rid, len(content), padding, 0) + content + b"\xaa" * padding


def begin(rid=1, role=1, keep=False):
    return record(BEGIN, rid, struct.pack(">HB5x", role, 1 if keep else 0))


def pair(name, value):
    name = name if isinstance(name, bytes) else name.encode()
    value = value if isinstance(value, bytes) else value.encode()
    size = lambda n: bytes([n]) if n < 128 else struct.pack(">I", n | 0x80000000)
    return size(len(name)) + size(len(value)) + name + value


def stream(kind, rid, content, piece=65535, padding=0):
    out = b"".join(record(kind, rid, content[i:i + piece], padding) for i in range(0, len(content), piece))
    return out + record(kind, rid, b"", padding)


def variables(target="/echo", method="GET", length=None, headers=(), extra=()):
    """The parameters as a list of pairs, so that tests can repeat some."""
    out = [("REQUEST_METHOD", method), ("REQUEST_URI", target), ("REMOTE_ADDR", "192.0.2.7"), ("SERVER_PROTOCOL", "HTTP/1.1"),
           ("QUERY_STRING", target.partition("?")[2])]
    if length is not None:
        out.append(("CONTENT_LENGTH", str(length)))
    return out + [("HTTP_" + n.upper().replace("-", "_"), v) for n, v in headers] + list(extra)


def request(target="/echo", method=None, body=None, rid=1, keep=False, headers=(), extra=(), length=None, padding=0, piece=65535):
    method = method or ("GET" if body is None else "POST")
    if length is None and body is not None:
        length = len(body)
    params = b"".join(pair(n, v) for n, v in variables(target, method, length, headers, extra))
    return (begin(rid, keep=keep) + stream(PARAMS, rid, params, padding=padding) + stream(STDIN, rid, body or b"", piece, padding))


class Answer:
    def __init__(self):
        self.stdout, self.ended, self.protocol_status, self.records = b"", False, None, []

    @property
    def status(self):
        return int(self.headers["status"].split()[0])

    @property
    def headers(self):
        return {k.lower(): v for k, _, v in (line.partition(": ") for line in self.head.split("\r\n"))}

    @property
    def head(self):
        return self.stdout.partition(b"\r\n\r\n")[0].decode()

    @property
    def body(self):
        return self.stdout.partition(b"\r\n\r\n")[2]

    @property
    def text(self):
        return self.body.decode()

    @property
    def values(self):
        return dict(line.split("=", 1) for line in self.text.partition("\n\n")[0].splitlines() if "=" in line)


class Peer:
    def __init__(self, path, timeout=10):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)  # blocking: a full queue of the kernel makes it wait
        self.sock.settimeout(timeout)
        self.buffer = b""

    def send(self, data):
        self.sock.sendall(data)
        return self

    def read_record(self):
        """(type, id, content), or None at the end of the connection."""
        while True:
            if len(self.buffer) >= 8:
                _, kind, rid, n, padding, _ = struct.unpack(">BBHHBB", self.buffer[:8])
                if len(self.buffer) >= 8 + n + padding:
                    content = self.buffer[8:8 + n]
                    self.buffer = self.buffer[8 + n + padding:]
                    return kind, rid, content
            try:
                more = self.sock.recv(65536)
            except ConnectionResetError:
                return None
            if not more:
                return None
            self.buffer += more

    def answer(self, rid=1):
        """Read until END_REQUEST for rid or the end of the connection; other records are kept in .records."""
        out = Answer()
        while True:
            r = self.read_record()
            if r is None:
                return out
            kind, got, content = r
            if kind == STDOUT and got == rid:
                out.stdout += content
            elif kind == END and got == rid:
                out.ended, out.protocol_status = True, content[4]
                return out
            else:
                out.records.append(r)

    def closed(self, within=5):
        """True when the gate closes the connection in time."""
        self.sock.settimeout(within)
        try:
            return self.read_record() is None
        except socket.timeout:
            return False

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Program:
    """A FastCGI program that finds its listening unix socket at descriptor 0."""

    def __init__(self, argv, nofile=None, env=None, backlog=1024):
        self.dir = tempfile.TemporaryDirectory(prefix="gate-")
        self.path = os.path.join(self.dir.name, "s")
        self.log_path = os.path.join(self.dir.name, "log")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(backlog)
        limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))) if nofile else None
        with open(self.log_path, "wb") as log:
            self.proc = subprocess.Popen(argv, stdin=listener, stderr=log, stdout=log, preexec_fn=limit, env=env)
        listener.close()

    @property
    def pid(self):
        return self.proc.pid

    def log(self):
        with open(self.log_path) as f:
            return f.read()

    def connect(self, timeout=10):
        return Peer(self.path, timeout)

    def ask(self, *args, timeout=10, rid=1, **kw):
        with self.connect(timeout) as p:
            return p.send(request(*args, rid=rid, **kw)).answer(rid)

    def stats(self):
        return {k: int(v) for k, v in self.ask("/stats").values.items()}

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def status(self, name):
        with open(f"/proc/{self.pid}/status") as f:
            return next(line.split(":", 1)[1].strip() for line in f if line.startswith(name + ":"))

    def rss_mib(self):
        return int(self.status("VmRSS").split()[0]) / 1024

    def alive(self):
        return self.proc.poll() is None

    def wait_exit(self, within=10):
        try:
            return self.proc.wait(within)
        except subprocess.TimeoutExpired:
            return None

    def stop(self):
        if self.alive():
            self.proc.send_signal(signal.SIGKILL)
        self.proc.wait()
        log = self.log()
        self.dir.cleanup()
        assert "Sanitizer" not in log and "runtime error:" not in log, log

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def eventually(fact, within=5, every=0.02):
    until = time.monotonic() + within
    while time.monotonic() < until:
        if fact():
            return True
        time.sleep(every)
    return bool(fact())
