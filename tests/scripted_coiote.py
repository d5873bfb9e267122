"""A Coiote that answers what a test tells it to, for what the local Coiote does not do by itself."""

import contextlib
import http.server
import json
import ssl
import tempfile
import threading
from pathlib import Path

from stack import certificates

# What a healthy Coiote answers, by the beginning of method and path below /api/coiotedm/v3
HEALTHY = {
    "GET /devices": (200, ["d:1"]),
    "POST /tasksFromTemplates/device/d%3A1": (201, "d:task:1"),
    "POST /sessions/d%3A1/allow-deregistered": (200, None),
}


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = f"{self.command} {self.path.removeprefix('/api/coiotedm/v3')}"
        self.server.asked.append(asked)
        scripted = next(answer for start, answer in self.server.answers.items() if asked.startswith(start))
        if scripted is None:
            # Hangs up instead of answering
            self.close_connection = True
            return
        status, body = scripted
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = answer

    def finish(self) -> None:
        super().finish()
        self.server.closed.set()

    def log_message(self, *_) -> None:
        pass


@contextlib.contextmanager
def scripted_coiote(authority: certificates.Authority, answers: dict, idle_seconds: float | None = None):
    """Its URL, the list of what it was asked, and the event of its closing a connection that was idle for so long."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(*authority.server("localhost").write(Path(folder), "server"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    server.RequestHandlerClass = type("Answer", (Answer,), {"timeout": idle_seconds})
    server.answers = HEALTHY | answers
    server.asked = []
    server.closed = threading.Event()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}", server.asked, server.closed
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
