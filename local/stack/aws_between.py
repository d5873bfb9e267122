"""A proxy between a function and the local AWS: it counts calls, and lets some of them fail as AWS does."""

import contextlib
import http.client
import json
import threading
import urllib.parse
from collections.abc import Callable

from stack.loopback import Handler, serving

Fault = Callable[["Call"], object]


class Call:
    """A call by its name, such as "update operation", "get datamodel", "GetSecretValue" or "PUT /target-policies"."""

    def __init__(self, method: str, path: str, target: str, body: bytes):
        parsed = urllib.parse.urlsplit(path)
        self.path, self.query = parsed.path, urllib.parse.parse_qs(parsed.query)
        shadow = self.query.get("name", [""])[0]
        verb = {"GET": "get", "POST": "update", "DELETE": "delete"}.get(method, method)
        of_shadow = f"{verb} {shadow}" if parsed.path.endswith("/shadow") else ""
        self.name = target.partition(".")[2] or of_shadow or f"{method} /{parsed.path.split('/')[1]}"
        self.body = body

    def json(self) -> dict:
        return json.loads(self.body)


class Refuse:
    """Fault: AWS answers with an error, and does nothing."""

    def __init__(self, status: int, code: str, message: str = "no"):
        self.status, self.code, self.message = status, code, message


class Answer:
    """Fault: AWS answers with this document, and does nothing."""

    def __init__(self, document: object):
        self.document = document


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
    """Fault: AWS does it, and the answer never arrives."""


class CutAnswer:
    """Fault: AWS does it, and half of the answer arrives as if it were all."""


class Between(Handler):
    """Passes calls on to the local AWS, except for those that meet a fault."""

    def handle_call(self) -> None:
        body = self.body()
        call = Call(self.command, self.path, self.headers.get("X-Amz-Target", ""), body)
        state = self.server.state
        with state.lock:
            state.calls.append(call.name)
            state.consistent_reads += b'"ConsistentRead":true' in body
            fault = state.next_fault(call)
        if isinstance(fault, Refuse):
            body = json.dumps({"message": fault.message, "__type": fault.code}).encode()
            return self.reply(fault.status, body, {"x-amzn-errortype": fault.code})
        if isinstance(fault, Answer):
            return self.reply(200, json.dumps(fault.document).encode())
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
    """The proxy, its faults, and the calls that it has seen."""

    def __init__(self, stack):
        self.aws = ("127.0.0.1", stack.aws.port)
        self.lock = threading.Lock()
        self.calls: list[str] = []
        # Calls among them that read from the ledger what was written last
        self.consistent_reads = 0
        self._faults: dict[str, list] = {}
        self._always: dict[str, object] = {}

    def once(self, name: str, *faults: object) -> None:
        """Sets the faults of the next calls of this name, in order. `None` lets one pass; a function is called before it passes."""
        self._faults.setdefault(name, []).extend(faults)

    def always(self, name: str, fault: object) -> None:
        """Sets the fault of all other calls of this name; a function chooses it by the call."""
        self._always[name] = fault

    def heal(self) -> None:
        """Removes all faults."""
        self._faults.clear()
        self._always.clear()

    def forget_calls(self) -> None:
        with self.lock:
            self.calls.clear()
            self.consistent_reads = 0

    def nothing_is_left_of(self, name: str) -> bool:
        """Whether calls of this name have met all their faults of `once`."""
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
