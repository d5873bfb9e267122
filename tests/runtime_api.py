"""Runs a function under a Runtime API that the test controls.

AWS's emulator (emulator.py) chooses request id and deadline of every invocation. Here the test does, for retries and timeouts.
"""

import contextlib
import itertools
import json
import queue
import threading
import time
import uuid

from stack.loopback import Handler, serving
from stack.aws import base_environment
from stack.local_stack import LocalStack
from stack.processes import Process

_numbers = itertools.count(1)


class Invocation:
    """An event for the function, and its result."""

    def __init__(self, event: bytes, request_id: str, seconds: float, trace: str):
        self.event, self.request_id, self.trace = event, request_id, trace
        self.deadline_ms = int((time.time() + seconds) * 1000)
        self.ended = threading.Event()
        self.result: object = None


class RuntimeApi(Handler):
    """https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html"""

    def do_GET(self) -> None:
        invocation = self.server.waiting.get()
        if invocation is None:
            self.close_connection = True
            return
        self.server.running[invocation.request_id] = invocation
        self.reply(
            200,
            invocation.event,
            {
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
                "Lambda-Runtime-Trace-Id": invocation.trace,
                "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:000000000000:function:test",
                "Content-Type": "application/json",
            },
        )

    def do_POST(self) -> None:
        body = self.body()
        request_id = self.path.split("/")[-2]
        self.reply(202)
        invocation = self.server.running.pop(request_id)
        invocation.result = json.loads(body)
        invocation.ended.set()


class Function:
    """An execution environment of a function."""

    def __init__(self, stack: LocalStack, logical_id: str, environment: dict[str, str]):
        self._ending = contextlib.ExitStack()
        self._api = self._ending.enter_context(serving(RuntimeApi, waiting=queue.Queue(), running={}))
        self.log = stack.run / f"{logical_id}-{next(_numbers)}.log"
        variables = {
            "RUST_LOG": "info",
            "AWS_REGION": "us-east-1",
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._api.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": logical_id,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        }
        self._process = Process(
            logical_id,
            [stack.deployment.function_binary(logical_id)],
            self.log,
            base_environment() | stack.aws.environment | stack.function_environment | variables | environment,
        )

    def begin(self, event: object, request_id: str | None = None, seconds: float = 30) -> Invocation:
        """Starts an invocation, without waiting for its result."""
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        number = f"{next(_numbers):024x}"
        trace = f"Root=1-{int(time.time()):08x}-{number};Parent={number[:16]};Sampled=1"
        invocation = Invocation(body, request_id or str(uuid.uuid4()), seconds, trace)
        self._api.waiting.put(invocation)
        return invocation

    def invoke(self, event: object, request_id: str | None = None, seconds: float = 30) -> dict:
        """Invokes the function; returns its result, or `{"errorType", "errorMessage"}`."""
        return self.result(self.begin(event, request_id, seconds), seconds + 10)

    def result(self, invocation: Invocation, patience: float = 40) -> dict:
        if not invocation.ended.wait(patience):
            self._process.check()
            raise AssertionError(f"no result within {patience:g} s; see {self.log}")
        return invocation.result

    def kill(self) -> None:
        """Kills it while it runs, as Lambda does at the timeout."""
        self._process.kill()

    def log_lines(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def stop(self) -> None:
        self._process.stop()
        self._api.waiting.put(None)
        self._ending.close()
