"""An execution environment of a function, for measuring: its binary under a Runtime API that does as little as possible.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import json
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path
from typing import NamedTuple

from stack.aws import base_environment
from stack.processes import Failure

# Time limit of a function's call in seconds, enough also under valgrind
PATIENCE = 120


class Invocation(NamedTuple):
    """The result of an invocation, and its cost."""

    result: dict
    # Seconds from the event to the answer, and of computing from the event to the next poll
    wall: float
    cpu: float


class Environment:
    """A running function, which is started at once."""

    def __init__(self, binary: Path, log: Path, variables: dict[str, str], wrapper: list[str] | None = None):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self.log = log
        command = [*(wrapper or []), str(binary)]
        of_lambda = {
            "RUST_LOG": "info",
            "AWS_REGION": "us-east-1",
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._listener.getsockname()[1]}",
            "AWS_LAMBDA_FUNCTION_NAME": binary.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        }
        environment = base_environment() | of_lambda | variables
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        to_log = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
        begun = time.perf_counter()
        # Without subprocess, whose own work would be measured as well.
        self.pid = os.posix_spawn(command[0], command, environment, file_actions=to_log)
        self._poll = self._next_request()
        self.started_in = time.perf_counter() - begun
        os.close(output)

    def invoke(self, event: object, seconds: float = 60) -> Invocation:
        request_id = str(uuid.uuid4())
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        head = (
            f"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: {request_id}\r\n"
            f"Lambda-Runtime-Deadline-Ms: {int((time.time() + seconds) * 1000)}\r\n"
            "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:measured\r\n"
            f"Lambda-Runtime-Trace-Id: Root=1-{request_id[:8]}-{request_id.replace('-', '')[8:]};Parent={request_id[:8]};Sampled=0\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        cpu, begun = self.cpu(), time.perf_counter()
        self._poll.connection.sendall(head.encode() + body)
        answer = self._next_request()
        wall = time.perf_counter() - begun
        answer.connection.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        self._poll = self._next_request()
        return Invocation(json.loads(answer.body), wall, self.cpu() - cpu)

    def cpu(self) -> float:
        """Seconds of computing so far of all threads, by the process's own clock (clock_getcpuclockid(3))."""
        return time.clock_gettime((~self.pid << 3) | 2)

    def peak_memory(self) -> int:
        """Peak of resident memory in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    def __enter__(self) -> "Environment":
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def _next_request(self) -> "Request":
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for key, _ in self._selector.select(timeout=1):
                if key.data is None:
                    connection, _ = self._listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._selector.register(connection, selectors.EVENT_READ, bytearray())
                    continue
                received = key.fileobj.recv(1 << 20)
                if not received:
                    self._selector.unregister(key.fileobj)
                    key.fileobj.close()
                    continue
                key.data.extend(received)
                request = Request.complete(key.fileobj, key.data)
                if request:
                    key.data.clear()
                    return request
            ended, _ = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                raise Failure(f"the function has ended; see {self.log}")
        raise Failure(f"the function has not said anything for {PATIENCE} s; see {self.log}")


class Request(NamedTuple):
    """A request of the function to the Runtime API."""

    connection: socket.socket
    body: bytes

    @staticmethod
    def complete(connection: socket.socket, received: bytearray) -> "Request | None":
        """The request, if all of it has been received."""
        head, end, body = bytes(received).partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        return Request(connection, body) if end and len(body) >= int(length[1] if length else 0) else None


def valgrind() -> str | None:
    """Path of valgrind, if it is installed. It counts instructions, which do not vary with the machine's load."""
    return shutil.which("valgrind")


def counting(log: Path) -> list[str]:
    """Prefix of a command that counts the instructions of it."""
    return [valgrind(), "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={log}"]


def counted(log: Path) -> int:
    """Number of instructions in the log of such a command."""
    return int(re.search(r"Collected : (\d+)", log.read_text())[1])


def instructions_to_start(binary: Path, run: Path, variables: dict[str, str]) -> int:
    """Instructions from the start to the first poll, which is refused here, and to the end that follows."""
    log = run / f"{binary.parent.name}-start.valgrind"
    with socket.socket() as nobody:
        # Bound but not listening: connections to it are refused.
        nobody.bind(("127.0.0.1", 0))
        api = {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{nobody.getsockname()[1]}", "AWS_REGION": "us-east-1"}
        named = {"AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_VERSION": "1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128"}
        environment = base_environment() | api | named | variables
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([*counting(log), binary], env=environment, check=False, **quiet)
    return counted(log)
