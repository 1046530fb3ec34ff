# SPDX-License-Identifier: Apache-2.0
"""tests/tools/fault_proxy for tests: started before a server, told what to do by lines (its head tells which), ended with the test."""
import os
import pathlib
import socket
import subprocess
import tempfile

from stack import wait_for

BUILD = os.environ.get("HEADGATE_BUILDDIR") or str(pathlib.Path(__file__).resolve().parents[2])
PROXY = os.path.join(BUILD, "tests/tools/fault_proxy")


class FaultProxy:
    """Addresses are "/path" or "127.0.0.1:PORT"."""

    def __init__(self, listen, upstream, seed=1):
        self.dir = tempfile.TemporaryDirectory(prefix="fault-")
        self.control = os.path.join(self.dir.name, "control")
        self.process = subprocess.Popen([PROXY, "--listen", listen, "--upstream", upstream, "--control", self.control, "--seed", str(seed)])
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        if not wait_for(self.connected, 10):
            self.process.kill()
            raise AssertionError(f"the fault proxy did not start: {self.process.wait()}")

    def connected(self):
        try:
            self.socket.connect(self.control)
            return True
        except OSError:
            return False

    def tell(self, *lines):
        """Each line must be understood; returns the last answer."""
        answer = ""
        for line in lines:
            self.socket.sendall(line.encode() + b"\n")
            answer = ""
            while not answer.endswith("\n"):
                piece = self.socket.recv(4096).decode()
                assert piece, "the fault proxy is gone"
                answer += piece
            assert not answer.startswith("error"), answer
        return answer.strip()

    def stats(self):
        return {name: int(value) for name, value in (pair.split("=") for pair in self.tell("stats").split())}

    def close(self):
        self.socket.close()
        self.process.terminate()
        status = self.process.wait(10)
        self.dir.cleanup()
        assert status == 0, f"the fault proxy ended with {status}"


class Interposed(FaultProxy):
    """Before a server that listens on a unix socket, without the server or its clients knowing: the socket moves, the proxy takes its
    place. Connections that stand already go past it. close() puts the socket back."""

    def __init__(self, path):
        self.path, self.moved = path, path + ".real"
        os.rename(path, self.moved)
        try:
            super().__init__(path, self.moved)
        except BaseException:
            os.rename(self.moved, self.path)
            raise

    def close(self):
        super().close()
        os.rename(self.moved, self.path)
