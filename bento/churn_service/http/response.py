"""An HTTP response, as ASGI sends it."""

from collections.abc import Mapping
from dataclasses import dataclass

from churn_service.http.request import JSON, Headers, Send


@dataclass(slots=True)
class Response:
    """Status, headers and body of a response."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] | None = None

    async def send(self, send: Send, extra: Headers) -> None:
        """Sends the response; `extra` headers follow the content type and length."""
        headers = [
            (b"content-type", self.content_type.encode()),
            (b"content-length", b"%d" % len(self.body)),
            *extra,
        ]
        if self.headers:
            headers += [(k.lower().encode(), v.encode()) for k, v in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})
