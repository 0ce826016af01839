"""Real local receivers of messages: a webhook and a mail server."""

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SECRET = "T0P-S3CRET"
LOGIN = base64.b64encode(b"\0churn\0" + SECRET.encode()).decode()


@dataclass
class Received:
    """Messages that a server accepted, and the status codes of its next responses."""

    port: int = 0
    responses: list[int] = field(default_factory=list)
    """Codes of the next responses; success once they are used up."""
    accepted: list[Any] = field(default_factory=list)
    requests: int = 0
    tls_connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/{SECRET}"

    def next_code(self, success: int) -> int:
        self.requests += 1
        return self.responses.pop(0) if self.responses else success

    @property
    def headlines(self) -> list[str]:
        """Headlines of the messages that the webhook accepted."""
        return [body["blocks"][0]["text"]["text"] for body in self.accepted]


@contextmanager
def webhook(*responses: int) -> Iterator[Received]:
    """A webhook whose first responses have the given status codes."""
    received = Received(responses=list(responses))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code = received.next_code(200)
            if code == 200:
                received.accepted.append(body)
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    yield from _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler), received)


@contextmanager
def mail_server(
    *responses: int, certificate: Path | None = None, wrapped: bool = False
) -> Iterator[Received]:
    """A mail server; with a certificate it offers STARTTLS, or uses TLS from the start.

    Args:
        responses: Codes of the first responses to a mail.
        certificate: File with certificate and key; None for a server without TLS.
        wrapped: Whether the server uses TLS from the start.
    """
    received = Received(responses=list(responses))
    secure = _tls_context(certificate) if certificate else None
    yield from _serving(_MailServer(received, secure, wrapped), received)


class _MailServer(ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, received: Received, secure: ssl.SSLContext | None, wrapped: bool) -> None:
        super().__init__(("127.0.0.1", 0), _MailHandler)
        self.received, self.secure, self.wrapped = received, secure, wrapped

    def handle_error(self, *_: object) -> None:
        """Ignores errors: a client that does not trust the certificate closes the connection."""


class _MailHandler(StreamRequestHandler):
    timeout = 10
    server: _MailServer

    def setup(self) -> None:
        super().setup()
        if self.server.wrapped:
            self.secure()

    def secure(self) -> None:
        assert self.server.secure is not None
        self.rfile.close()
        self.request = self.server.secure.wrap_socket(self.request, server_side=True)
        super().setup()
        self.server.received.tls_connections += 1

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def handle(self) -> None:
        self.say("220 here")
        while line := self.rfile.readline().decode().strip():
            verb = line.split()[0].lower()
            getattr(self, verb, lambda _: self.say("250 ok"))(line)

    def ehlo(self, _: str) -> None:
        self.say("250-here")
        if self.server.secure and not isinstance(self.request, ssl.SSLSocket):
            self.say("250-STARTTLS")
        self.say("250 AUTH PLAIN")

    def starttls(self, _: str) -> None:
        self.say("220 go on")
        self.secure()

    def auth(self, line: str) -> None:
        self.say("235 ok" if line.split()[2] == LOGIN else f"535 no: {line}")

    def quit(self, _: str) -> None:
        self.say("221 bye")

    def data(self, _: str) -> None:
        self.say("354 go on")
        lines = list(iter(lambda: self.rfile.readline().decode(), ".\r\n"))
        if (code := self.server.received.next_code(250)) == 250:
            self.server.received.accepted.append("".join(lines))
        self.say(f"{code} answered")


def self_signed(folder: Path) -> Path:
    """A certificate for this machine with its key, in one file."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = folder / "here.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def _tls_context(certificate: Path) -> ssl.SSLContext:
    secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    secure.load_cert_chain(certificate)
    return secure


def _serving(server: Any, received: Received) -> Iterator[Received]:
    received.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
