"""Stands between a function and the local AWS: counts its calls, and lets some of them fail as AWS does."""

import contextlib
import http.client
import json
import threading
import urllib.parse
from collections.abc import Callable

from stack.loopback import Handler, serving

Fault = Callable[["Call"], object]


class Call:
    """What is called, as in "update operation", "get datamodel", "GetSecretValue" or "PUT /target-policies"."""

    def __init__(self, method: str, path: str, target: str, body: bytes):
        parsed = urllib.parse.urlsplit(path)
        shadow = urllib.parse.parse_qs(parsed.query).get("name", [""])[0]
        verb = {"GET": "get", "POST": "update", "DELETE": "delete"}.get(method, method)
        of_shadow = f"{verb} {shadow}" if parsed.path.endswith("/shadow") else ""
        self.name = target.partition(".")[2] or of_shadow or f"{method} /{parsed.path.split('/')[1]}"
        self.body = body

    def json(self) -> dict:
        return json.loads(self.body)


class Refuse:
    """Answers with an error of AWS; nothing is done."""

    def __init__(self, status: int, code: str, message: str = "no"):
        self.status, self.code, self.message = status, code, message


CONFLICT = Refuse(409, "ConflictException")
THROTTLED = Refuse(429, "ThrottlingException")
TOO_LARGE = Refuse(413, "RequestEntityTooLargeException")
BROKEN = Refuse(500, "InternalFailureException")
DENIED = Refuse(403, "ForbiddenException")
REGISTRY_DENIED = Refuse(403, "AccessDeniedException")
LEDGER_THROTTLED = Refuse(400, "ProvisionedThroughputExceededException")
ACCESS_DENIED = Refuse(400, "AccessDeniedException")
STILL_ATTACHED = Refuse(409, "DeleteConflictException")
STILL_DELETED = Refuse(
    400,
    "InvalidRequestException",
    "You can't create this secret because a secret with this name is already scheduled for deletion.",
)


class LoseAnswer:
    """It is done, and the answer never arrives."""


class CutAnswer:
    """It is done, and only half of the answer arrives, as if that were all."""


class Between(Handler):
    def handle_call(self) -> None:
        body = self.body()
        call = Call(self.command, self.path, self.headers.get("X-Amz-Target", ""), body)
        state = self.server.state
        with state.lock:
            state.calls.append(call.name)
            fault = state.next_fault(call)
        if isinstance(fault, Refuse):
            body = json.dumps({"message": fault.message, "__type": fault.code}).encode()
            return self.reply(fault.status, body, {"x-amzn-errortype": fault.code})
        if callable(fault):
            fault()
        connection = http.client.HTTPConnection(*state.aws, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        if isinstance(fault, LoseAnswer):
            self.close_connection = True
            return
        if isinstance(fault, CutAnswer):
            answer = answer[: len(answer) // 2]
        kept = {n: v for n, v in response.getheaders() if n.lower() in ("content-type", "x-amzn-errortype")}
        self.reply(response.status, answer, kept)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_call


class AwsBetween:
    def __init__(self, stack):
        self.aws = ("127.0.0.1", stack.aws.port)
        self.lock = threading.Lock()
        self.calls: list[str] = []
        self._faults: dict[str, list] = {}
        self._always: dict[str, object] = {}

    def once(self, name: str, *faults: object) -> None:
        """The next calls of this name meet these, in this order; `None` lets one pass, a function is called first."""
        self._faults.setdefault(name, []).extend(faults)

    def always(self, name: str, fault: object) -> None:
        self._always[name] = fault

    def heal(self) -> None:
        self._faults.clear()
        self._always.clear()

    def nothing_is_left_of(self, name: str) -> bool:
        """Whether all faults that were meant for calls of this name have been met."""
        return not self._faults.get(name)

    def next_fault(self, call: Call) -> object:
        waiting = self._faults.get(call.name)
        if waiting:
            return waiting.pop(0)
        fault = self._always.get(call.name)
        return fault(call) if callable(fault) else fault

    @contextlib.contextmanager
    def serve(self):
        with serving(Between, state=self) as server:
            self.endpoint = f"http://127.0.0.1:{server.server_port}"
            yield self
