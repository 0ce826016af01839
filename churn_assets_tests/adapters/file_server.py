"""A real local HTTP server of files, whose responses a test sets one by one."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Response:
    """The response to a request for a file.

    Attributes:
        missing: Bytes that Content-Length announces and the body lacks.
        head_status: Status of the response to HEAD, where it differs.
        sized: Whether there is a Content-Length.
    """

    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    missing: int = 0
    head_status: int | None = None
    sized: bool = True


@dataclass
class Files:
    """The responses of a server by name of the file, and the requests that it received."""

    root: str = ""
    responses: dict[str, Response] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def put(self, name: str, body: bytes = b"", **response: object) -> str:
        """Sets the response for a file, and returns the file's URL."""
        self.responses[name] = Response(body, **response)  # type: ignore[arg-type]
        return f"{self.root}/{name}"


@contextmanager
def file_server(certificate: Path | None = None) -> Iterator[Files]:
    """A server on a free port of 127.0.0.1; with a certificate it uses TLS."""
    files = Files()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/").partition("?")[0]
            files.requests.append(f"{self.command} {name}")
            response = files.responses.get(name, Response(status=404))
            head = self.command == "HEAD"
            self.send_response((head and response.head_status) or response.status)
            for header, text in response.headers.items():
                self.send_header(header, text)
            if response.sized:
                self.send_header("Content-Length", str(len(response.body) + response.missing))
            self.end_headers()
            if not head:
                self.wfile.write(response.body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Ignores errors: a client may close the connection before it has read the body."""

    server = Server(("127.0.0.1", 0), Handler)
    if certificate:
        secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        secure.load_cert_chain(certificate)
        server.socket = secure.wrap_socket(server.socket, server_side=True)
    files.root = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
