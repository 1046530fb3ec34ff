# SPDX-License-Identifier: Apache-2.0
"""A provider of a test's own: a socket that answers each call with the bytes it was given, and keeps what it was sent.

The simulator speaks the real format; this one exists to say what no simulator should: wrong bytes, refusals, redirects.
"""
import contextlib
import socket
import threading


class Provider:
    def __init__(self, answer=b""):
        self.answer = answer  # bytes, or a function of (head, body)
        self.calls = []       # (head as text, body as bytes)
        self.closed = threading.Event()  # somebody closed a connection early
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ending = False
        threading.Thread(target=self.serve, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def serve(self):
        while not self.ending:
            with contextlib.suppress(OSError):
                sock, _ = self.listener.accept()
                threading.Thread(target=self.converse, args=(sock,), daemon=True).start()

    def converse(self, sock):
        with contextlib.suppress(OSError), sock:
            while (call := self.read_call(sock)):
                self.calls.append(call)
                answer = self.answer(*call) if callable(self.answer) else self.answer
                for piece in answer if isinstance(answer, (list, tuple)) else [answer]:
                    if callable(piece):
                        piece()
                    else:
                        sock.sendall(piece)
                if b"connection: close" in self.whole(answer).lower():
                    return
            self.closed.set()

    @staticmethod
    def whole(answer):
        return b"".join(p for p in answer if not callable(p)) if isinstance(answer, (list, tuple)) else answer

    @staticmethod
    def read_call(sock):
        data = b""
        while b"\r\n\r\n" not in data:
            piece = sock.recv(65536)
            if not piece:
                return None
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        text = head.decode("latin-1")
        length = next((int(line.split(":")[1]) for line in text.split("\r\n") if line.lower().startswith("content-length:")), 0)
        while len(body) < length:
            body += sock.recv(65536)
        return text, body

    def close(self):
        self.ending = True
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self.listener.close()


def http_answer(body, status="200 OK", content_type="application/json", extra=""):
    if isinstance(body, str):
        body = body.encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def http_stream(*events):
    body = b"".join(events)
    return (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + f"{len(body):x}\r\n".encode() + body
            + b"\r\n0\r\n\r\n")
