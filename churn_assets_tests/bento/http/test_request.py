"""Bodies of ASGI requests."""

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from churn_service.http.request import ClientDisconnect, Message, Request
from churn_service.inference.predictions import RequestContext
from churn_service.problems import Problem
from hypothesis import given
from hypothesis import strategies as st

from churn_assets_tests.bento.in_process import DISCONNECT, body_messages, receiver

LIMIT = 100
JSON = {b"content-type": b"application/json"}
FIRST_PART: Message = {"type": "http.request", "body": b"{", "more_body": True}


def read(
    messages: Sequence[Message], headers: dict[bytes, bytes] | None = None, seconds: float = 5
) -> bytes:
    """Reads the body of a request that consists of these messages."""
    headers = JSON if headers is None else headers
    request = Request({}, headers, receiver(messages), RequestContext(), "1")
    return asyncio.run(request.body(LIMIT, seconds))


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
def test_every_spelling_of_the_json_content_type_is_accepted(kind: bytes) -> None:
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
def test_other_content_types_are_refused_before_the_body_is_read(kind: bytes) -> None:
    problem = refused([], {b"content-type": kind})
    assert (problem.kind, problem.headers) == (
        "unsupported-media-type",
        {"Accept": "application/json"},
    )


def test_the_content_type_is_required() -> None:
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


def test_the_content_encoding_identity_is_accepted() -> None:
    assert read(body_messages(b"{}"), JSON | {b"content-encoding": b"identity"}) == b"{}"


@given(st.binary(max_size=LIMIT), st.lists(st.integers(0, LIMIT)))
def test_a_body_in_parts_is_one_body(body: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    parts = [body[a:b] for a, b in pairwise(edges)]
    assert read(body_messages(*parts)) == body


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT, LIMIT + 1, LIMIT * 10])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("with_length", [True, False])
def test_a_body_may_not_exceed_the_limit(size: int, parts: int, with_length: bool) -> None:
    headers = JSON | ({b"content-length": b"%d" % size} if with_length else {})
    body = b"x" * size
    messages = body_messages(body[: size // parts], *([body[size // parts :]] * (parts - 1)))
    if size <= LIMIT:
        assert read(messages, headers) == body
    else:
        problem = refused(messages, headers)
        assert (problem.kind, problem.headers) == ("too-large", {"Connection": "close"})
        assert f"{LIMIT} bytes" in problem.detail


def test_a_body_that_is_too_large_by_its_length_is_refused_before_it_arrives() -> None:
    assert refused([], JSON | {b"content-length": b"%d" % (LIMIT + 1)}).kind == "too-large"


def test_an_endless_body_is_refused_at_the_limit() -> None:
    endless = [{"type": "http.request", "body": b"x" * LIMIT, "more_body": True}] * 2
    assert refused(endless).kind == "too-large"


@pytest.mark.parametrize("messages", [[], [FIRST_PART]])
def test_a_body_must_arrive_before_the_deadline(messages: list[Message]) -> None:
    began = time.perf_counter()
    problem = refused(messages)
    assert 0.04 < time.perf_counter() - began < 2
    assert (problem.kind, problem.headers) == ("timeout", {"Connection": "close"})


@pytest.mark.parametrize("before", [[], [FIRST_PART]])
def test_a_client_may_disconnect(before: list[Message]) -> None:
    with pytest.raises(ClientDisconnect):
        read([*before, DISCONNECT])
