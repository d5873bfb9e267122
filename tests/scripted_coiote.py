"""A Coiote whose answers the test sets, for behaviour that the local Coiote lacks."""

import contextlib
import json
import socket
import ssl
import struct
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

from stack.loopback import Handler, serving
from stack import certificates

# Answers of a healthy Coiote, by the beginning of method and path below /api/coiotedm/v3
HEALTHY = {
    "GET /devices": (200, ["d:1"]),
    "POST /tasksFromTemplates/device/d%3A1": (201, "d:task:1"),
    "POST /sessions/d%3A1/allow-deregistered": (200, None),
}


CREATE = "POST /tasksFromTemplates/device/d%3A1"
SEARCH = "GET /devices"
SESSION = "POST /sessions/d%3A1/allow-deregistered"

# Instead of an answer: Coiote executes the call, and the connection is lost
LOST = "lost"
# … the connection is reset before Coiote has read the call
RESET = "reset"
# … no answer comes as long as the client waits
SLOW = "slow"


class ScriptedHandler(Handler):
    def answer(self) -> None:
        asked = f"{self.command} {self.path.removeprefix('/api/coiotedm/v3')}"
        script = next(answer for start, answer in self.server.answers.items() if asked.startswith(start))
        with self.server.lock:
            self.server.asked.append(asked)
            # Answers of a list are given in order, and the last one repeatedly.
            scripted = (script.pop(0) if len(script) > 1 else script[0]) if isinstance(script, list) else script
        if callable(scripted):
            scripted = scripted()
        if scripted == RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        body = self.body()
        with self.server.lock:
            self.server.bodies.append((asked, json.loads(body) if body else None))
        does_it = scripted in (LOST, SLOW) or scripted[0] == 201
        if asked.startswith(CREATE) and does_it:
            self.server.tasks.append(asked)
        if scripted == SLOW:
            self.server.ending.wait()
        if scripted in (LOST, SLOW):
            self.close_connection = True
            return
        status, body, *headers = scripted
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.reply(status, data, dict(*headers))

    do_GET = do_POST = do_DELETE = answer

    def setup(self) -> None:
        self.server.connections.append(self.client_address)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.server.closed.set()


class Script(NamedTuple):
    """The server's URL, and the records of its calls."""

    url: str
    # Its answers, by the beginning of method and path
    answers: dict
    # Calls in order, as method and path
    asked: list[str]
    # Calls with their bodies, as far as they were read
    bodies: list[tuple[str, object]]
    # Calls that have created tasks
    tasks: list[str]
    # Set when it closes a connection, as after `idle_seconds`
    closed: threading.Event
    # Addresses of the clients that have connected
    connections: list[tuple]


@contextlib.contextmanager
def scripted_coiote(authority: certificates.Authority, answers: dict, idle_seconds: float | None = None, name: str = "localhost"):
    """Runs a server with these answers, by the beginning of method and path; a list of answers is given in order.

    A function returns its answer when it is asked.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(*authority.server(name).write(Path(folder), "server"))
    state = {"answers": HEALTHY | answers, "asked": [], "bodies": [], "tasks": [], "connections": [], "lock": threading.Lock()}
    state |= {"closed": threading.Event(), "ending": threading.Event()}
    handler = type("ScriptedHandlerWithTimeout", (ScriptedHandler,), {"timeout": idle_seconds})
    with serving(handler, context, **state) as server:
        try:
            url = f"https://localhost:{server.server_port}"
            yield Script(url, server.answers, server.asked, server.bodies, server.tasks, server.closed, server.connections)
        finally:
            server.ending.set()
