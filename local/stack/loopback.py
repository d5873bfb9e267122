"""HTTP servers on loopback, in threads of the test, that a function calls."""

import contextlib
import http.server
import ssl
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(self, status: int, body: bytes = b"", headers: dict | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        # A client that does not wait any more hangs up.
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *_) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # Many calls may come at the same moment.
    request_queue_size = 64

    def handle_error(self, *_) -> None:
        """Ignores errors: a function that is stopped, or does not wait any more, hangs up."""


@contextlib.contextmanager
def serving(handler: type[Handler], tls: ssl.SSLContext | None = None, **state):
    """Runs a server, of which `state` are attributes for its handlers."""
    server = Server(("127.0.0.1", 0), handler)
    for name, value in state.items():
        setattr(server, name, value)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    # Seconds between two looks whether to end: the default, half a second, would be most of a test.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
