import asyncio

from churn_service.http.request import Message
from churn_service.http.response import Response


def sent(response: Response, *extra: tuple[bytes, bytes]) -> list[Message]:
    """The ASGI messages of a response."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    asyncio.run(response.send(send, extra))
    return messages


def test_a_response_has_a_type_a_length_and_its_headers() -> None:
    response = Response(b"{}", 429, "application/problem+json", {"Retry-After": "3"})
    start, body = sent(response, (b"x-request-id", b"7"))
    assert start == {
        "type": "http.response.start",
        "status": 429,
        "headers": [
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"2"),
            (b"x-request-id", b"7"),
            (b"retry-after", b"3"),
        ],
    }
    assert body == {"type": "http.response.body", "body": b"{}"}


def test_a_response_is_json_by_default() -> None:
    start, _ = sent(Response("\u20ac".encode()))
    assert start["status"] == 200
    assert dict(start["headers"]) == {
        b"content-type": b"application/json",
        b"content-length": b"3",
    }
