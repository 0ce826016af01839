"""How a body comes in, and how a reply goes out, as ASGI has them."""

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from churn_service.deadline import Deadline
from churn_service.http.request import ClientDisconnect, Message, Request
from churn_service.http.response import Response
from churn_service.inference.predictions import RequestContext
from churn_service.problems import Problem
from hypothesis import given
from hypothesis import strategies as st

from churn_assets_tests.bento.inside import body_messages

LIMIT = 100
JSON = {b"content-type": b"application/json"}
GONE: Message = {"type": "http.disconnect"}
BEGUN: Message = {"type": "http.request", "body": b"{", "more_body": True}


def read(
    messages: Sequence[Message], headers: dict[bytes, bytes] | None = None, seconds: float = 5
) -> bytes:
    """The body of a request; once the messages are used up, nothing more ever comes."""
    waiting = list(messages)

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    call = Request({}, JSON if headers is None else headers, receive, RequestContext(), "1")
    return asyncio.run(call.body(LIMIT, Deadline(seconds)))


def refused(messages: Sequence[Message], headers: dict[bytes, bytes] | None = None) -> Problem:
    with pytest.raises(Problem) as caught:
        read(messages, headers, seconds=0.05)
    return caught.value


@pytest.mark.parametrize(
    "kind",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json;charset=utf-8",
        b'application/json; charset="UTF-8"',
        b"application/json ; Charset=utf-8",
        b"application/json; version=2",
    ],
)
def test_json_is_taken_however_it_is_written(kind: bytes) -> None:
    assert read(body_messages(b"{}"), {b"content-type": kind}) == b"{}"


@pytest.mark.parametrize(
    "kind",
    [
        b"",
        b"text/plain",
        b"application/jsonp",
        b"application/json-patch+json",
        b"application/json, text/plain",
        b"application/json; charset=utf-16",
        b"application/json; charset=latin-1",
        b"application/json; charset=utf-8; charset=utf-16",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data",
        b"\xff\xfe",
    ],
)
def test_anything_else_is_refused_before_it_is_read(kind: bytes) -> None:
    problem = refused([], {b"content-type": kind})
    assert (problem.kind, problem.headers) == (
        "unsupported-media-type",
        {"Accept": "application/json"},
    )


def test_a_type_must_be_given() -> None:
    problem = refused([], {})
    assert problem.kind == "unsupported-media-type"
    assert "missing" in problem.detail


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"deflate", b"gzip, identity"])
def test_compressed_bodies_are_refused(coding: bytes) -> None:
    problem = refused([], JSON | {b"content-encoding": coding})
    assert (problem.kind, problem.headers) == (
        "unsupported-media-type",
        {"Accept-Encoding": "identity"},
    )


def test_an_uncompressed_body_may_say_so() -> None:
    assert read(body_messages(b"{}"), JSON | {b"content-encoding": b"identity"}) == b"{}"


@given(st.binary(max_size=LIMIT), st.lists(st.integers(0, LIMIT)))
def test_a_body_in_parts_is_one_body(body: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    parts = [body[a:b] for a, b in pairwise(edges)]
    assert read(body_messages(*parts)) == body


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT, LIMIT + 1, LIMIT * 10])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("told", [True, False])
def test_a_body_has_so_many_bytes_at_most(size: int, parts: int, told: bool) -> None:
    headers = JSON | ({b"content-length": b"%d" % size} if told else {})
    body = b"x" * size
    messages = body_messages(body[: size // parts], *([body[size // parts :]] * (parts - 1)))
    if size <= LIMIT:
        assert read(messages, headers) == body
    else:
        problem = refused(messages, headers)
        assert (problem.kind, problem.headers) == ("too-large", {"Connection": "close"})
        assert f"{LIMIT} bytes" in problem.detail


def test_a_body_that_says_it_is_too_large_is_not_waited_for() -> None:
    assert refused([], JSON | {b"content-length": b"%d" % (LIMIT + 1)}).kind == "too-large"


def test_a_body_without_an_end_is_not_read_to_it() -> None:
    endless = [{"type": "http.request", "body": b"x" * LIMIT, "more_body": True}] * 2
    assert refused(endless).kind == "too-large"


@pytest.mark.parametrize("messages", [[], [BEGUN]])
def test_a_body_must_come_in_time(messages: list[Message]) -> None:
    begun = time.perf_counter()
    problem = refused(messages)
    assert 0.04 < time.perf_counter() - begun < 2
    assert (problem.kind, problem.headers) == ("timeout", {"Connection": "close"})


@pytest.mark.parametrize(
    "before", [[], [{"type": "http.request", "body": b"{", "more_body": True}]]
)
def test_a_caller_may_go(before: list[Message]) -> None:
    with pytest.raises(ClientDisconnect):
        read([*before, GONE])


def sent(reply: Response, *extra: tuple[bytes, bytes]) -> list[Message]:
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    asyncio.run(reply.send(send, extra))
    return messages


def test_a_reply_has_a_type_a_length_and_its_headers() -> None:
    reply = Response(b"{}", 429, "application/problem+json", {"Retry-After": "3"})
    start, body = sent(reply, (b"x-request-id", b"7"))
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


def test_a_reply_is_json_unless_it_says_otherwise() -> None:
    start, _ = sent(Response("\u20ac".encode()))
    assert start["status"] == 200
    assert dict(start["headers"]) == {
        b"content-type": b"application/json",
        b"content-length": b"3",
    }
