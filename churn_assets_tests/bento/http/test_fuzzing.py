"""Any bytes get a response below 500 or a closed connection, and never let a client wait."""

import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from churn_assets.adapters.bentos import BentoStore, BuiltBento
from churn_assets_tests.bento.expected_responses import CUSTOMER, expected_prediction
from churn_assets_tests.bento.served_bento import ServedBento, served_bento

TIMEOUT = 1.0
"""Seconds within which a body must arrive."""

PATIENCE = 10.0
"""Seconds without a response after which the server counts as hanging."""

LIMIT = 2**17
"""Most bytes of a batch."""

BODY = json.dumps(CUSTOMER).encode()
FUZZED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def server(
    built: BuiltBento, store: BentoStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedBento]:
    limits = {"CHURN_API_TIMEOUT": f"{TIMEOUT}", "CHURN_API_MAX_BODY_BYTES": f"{LIMIT}"}
    with served_bento(built, store, tmp_path_factory.mktemp("log"), limits) as server:
        yield server


@pytest.fixture(autouse=True)
def healthy(server: ServedBento) -> Iterator[None]:
    """Checks after each test that the server predicts and has had no internal error."""
    yield
    response = server.client.post("/predict", json=CUSTOMER)
    assert response.json() == expected_prediction(CUSTOMER, response.json())
    families = text_string_to_metric_families(server.client.get("/metrics").text)
    errors = {
        sample.labels["error_type"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "churn_prediction_errors_total"
    }
    assert (errors["internal"], errors["unavailable"], errors["overloaded"]) == (0, 0, 0)


def exchange(server: ServedBento, *pieces: bytes, finish: bool) -> bytes:
    """Returns all bytes that the server sends until it closes the connection.

    Args:
        pieces: Bytes to send, one piece after the other.
        finish: Whether to close the sending half afterwards; else only the server can end it.
    """
    port = urlsplit(server.url).port
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
            if finish:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(2**16):
                received += part
        except (ConnectionResetError, BrokenPipeError):
            pass  # The server closed the connection before it had read everything.
    return received


def statuses(received: bytes) -> list[int]:
    """Status of each response in the received bytes, which must be responses only."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        assert first.startswith(b"HTTP/1.1 "), received
        headers = {name.lower(): value for name, _, value in (x.partition(b": ") for x in lines)}
        found.append(int(first.split()[1]))
        received = rest[int(headers.get(b"content-length", len(rest))) :]
    assert all(status < 500 for status in found), found
    return found


def head(*lines: bytes, target: bytes = b"/predict", method: bytes = b"POST") -> bytes:
    fixed = (method + b" " + target + b" HTTP/1.1", b"Host: churn", b"Connection: close")
    return b"\r\n".join((*fixed, *lines)) + b"\r\n\r\n"


JSON_TYPE = b"Content-Type: application/json"


def length(number: int) -> bytes:
    return b"Content-Length: %d" % number


@given(st.binary(max_size=500))
@example(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # TLS
@example(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
@example(b"GET\r\n\r\n")
@example(b"GET / HTTP/9.9\r\n\r\n")
@FUZZED
def test_bytes_that_are_not_http(server: ServedBento, noise: bytes) -> None:
    statuses(exchange(server, noise, finish=True))


@given(st.binary(max_size=300))
@FUZZED
def test_bytes_after_a_valid_request(server: ServedBento, noise: bytes) -> None:
    valid = b"GET /health HTTP/1.1\r\nHost: churn\r\n\r\n"
    # The server may read both at once, and refuse the noise before it responds to the request.
    assert set(statuses(exchange(server, valid, noise, finish=True))) <= {200, 400, 404, 405}


@given(st.binary(max_size=2_000))
@example(b"")
@example(b"\xff\xfe")
@example(b"[" * 60_000)
@example(b'{"age":' * 8_000)
@example(b"9" * 60_000)
@example(b'{"age": 1e999999}')
@example(b'{"customer_id": "\\ud800"}')
@FUZZED
def test_a_body_of_any_bytes(server: ServedBento, body: bytes) -> None:
    for target in (b"/predict", b"/predict/batch"):
        request = head(JSON_TYPE, length(len(body)), target=target)
        [status] = statuses(exchange(server, request + body, finish=False))
        assert status in (400, 422), body
        assert (status == 400) == (not is_json(body)), body


def is_json(body: bytes) -> bool:
    """Whether another parser accepts a body."""
    try:
        value = json.loads(body.decode())
        json.dumps(value, ensure_ascii=False).encode()  # Fails for half a surrogate pair.
    except (ValueError, RecursionError):
        return False
    return True


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**400), max_value=10**400)
    | st.floats()
    | st.text(max_size=200)
    | st.sampled_from(list(CUSTOMER.values())),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(list(CUSTOMER)), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A customer's JSON with random values in some fields, and random bytes in some places."""
    others = draw(
        st.dictionaries(st.sampled_from(list(CUSTOMER)) | st.text(), JSON_VALUES, max_size=3)
    )
    missing = draw(st.sets(st.sampled_from(list(CUSTOMER)), max_size=2))
    customer = {name: value for name, value in (CUSTOMER | others).items() if name not in missing}
    body = bytearray(json.dumps(customer, ensure_ascii=draw(st.booleans())), "utf-8", "replace")
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(body)))
        body[start : start + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(body)


@given(mutants())
@settings(FUZZED, max_examples=400)
def test_a_customer_with_random_values_and_bytes(server: ServedBento, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = server.client.post("/predict", content=body, headers=headers)
    assert response.status_code in (200, 400, 422)
    if response.status_code == 200:
        predicted = response.json()
        assert predicted == expected_prediction(json.loads(body), predicted)
    else:
        assert response.headers["content-type"] == "application/problem+json"
        assert json.loads(response.content, parse_constant=pytest.fail)["detail"]


PRINTABLE = st.binary(max_size=60).map(lambda raw: raw.translate(None, b"\r\n\0"))


@given(kind=PRINTABLE)
@example(kind=b"application/json; charset=utf-16")
@example(kind=b";" * 5_000)
@FUZZED
def test_any_content_type(server: ServedBento, kind: bytes) -> None:
    request = head(b"Content-Type: " + kind, length(len(BODY)))
    found = statuses(exchange(server, request + BODY, finish=False))
    assert found in ([200], [400], [415])


@given(
    name=st.sampled_from(
        (b"Authorization", b"X-API-Key", b"X-Request-Id", b"traceparent", b"Content-Encoding",
         b"Expect", b"Transfer-Encoding", b"Content-Length", b"Connection", b"Upgrade", b"Host",
         b"Accept", b"Cookie", b"X-Forwarded-For", b"")
    ),
    value=PRINTABLE | st.integers().map(lambda number: b"%d" % number),
)  # fmt: skip
@example(name=b"Expect", value=b"100-continue")
@example(name=b"Upgrade", value=b"websocket")
@example(name=b"X-Request-Id", value=b"\r\nX-Evil: 1")
@FUZZED
def test_any_value_of_any_header(server: ServedBento, name: bytes, value: bytes) -> None:
    request = head(JSON_TYPE, length(len(BODY)), name + b": " + value) + BODY
    # A second length or transfer encoding may announce bytes that never arrive.
    received = exchange(server, request, finish=name in (b"Transfer-Encoding", b"Content-Length"))
    received = received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert statuses(received)[:1] in ([], [200], [400], [415])


@given(target=PRINTABLE, method=st.sampled_from((b"GET", b"POST", b"PUT", b"TRACE", b"FOO", b"")))
@example(target=b"/predict/../health", method=b"GET")
@example(target=b"/%2e%2e/%00", method=b"GET")
@example(target=b"/predict/batch?on_error=%ff%fe&on_error", method=b"POST")
@example(target=b"/static_content/../../../../etc/passwd", method=b"GET")
@example(target=b"/static_content/%2e%2e/%2e%2e/service.py", method=b"GET")
@example(target=b"/" + b"a" * 60_000, method=b"GET")
@FUZZED
def test_any_target(server: ServedBento, target: bytes, method: bytes) -> None:
    found = statuses(exchange(server, head(target=target, method=method), finish=True))
    assert found[:1] in ([], [200], [307], [400], [404], [405], [415], [422])


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=40))
@FUZZED
def test_chunks_are_read_as_one_body(server: ServedBento, sizes: list[int]) -> None:
    pieces: list[bytes] = []
    rest = BODY
    for size in sizes:
        pieces, rest = [*pieces, rest[:size]], rest[size:]
    chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, rest) if piece]
    request = head(JSON_TYPE, b"Transfer-Encoding: chunked")
    received = exchange(server, request, *chunks, b"0\r\n\r\n", finish=False)
    assert statuses(received) == [200]
    response = json.loads(received.partition(b"\r\n\r\n")[2])
    assert response == expected_prediction(CUSTOMER, response)


@given(chunks=st.binary(max_size=100))
@FUZZED
def test_bytes_that_are_not_chunks(server: ServedBento, chunks: bytes) -> None:
    request = head(JSON_TYPE, b"Transfer-Encoding: chunked")
    received = exchange(server, request, chunks, finish=True)
    assert statuses(received)[:1] in ([], [400], [422])


@pytest.mark.parametrize("announced", [1, len(BODY) - 1])
def test_a_body_that_is_longer_than_its_length(server: ServedBento, announced: int) -> None:
    received = exchange(server, head(JSON_TYPE, length(announced)) + BODY, finish=False)
    assert statuses(received)[0] in (400, 422)


@pytest.mark.parametrize("sent", [b"", BODY[:-1]], ids=["nothing", "all but a byte"])
@pytest.mark.parametrize("coding", [length(len(BODY)), b"Transfer-Encoding: chunked"])
def test_a_body_that_never_arrives(server: ServedBento, sent: bytes, coding: bytes) -> None:
    """The server waits for the time that the settings allow."""
    chunked = b"%x\r\n%s" % (len(BODY), sent) if coding.startswith(b"T") else sent
    received = exchange(server, head(JSON_TYPE, coding), chunked, finish=False)
    assert statuses(received) == [408]


@pytest.mark.parametrize("sent", [b"", BODY[:-1]], ids=["nothing", "all but a byte"])
def test_a_client_that_disconnects_before_the_body_is_complete(
    server: ServedBento, sent: bytes
) -> None:
    received = exchange(server, head(JSON_TYPE, length(len(BODY))), sent, finish=True)
    assert received == b""


LIMITS = [(b"/predict", BODY, 2**16), (b"/predict/batch", b'{"customers": [%s]}' % BODY, LIMIT)]


@pytest.mark.parametrize("spare", [1, 0])
@pytest.mark.parametrize(("target", "body", "limit"), LIMITS)
def test_a_body_within_the_limit(
    server: ServedBento, target: bytes, body: bytes, limit: int, spare: int
) -> None:
    request = head(JSON_TYPE, length(limit - spare), target=target)
    received = exchange(server, request, body.ljust(limit - spare), finish=False)
    assert statuses(received) == [200]


@pytest.mark.parametrize("more", [1, 2**40])
@pytest.mark.parametrize(("target", "body", "limit"), LIMITS)
def test_a_body_beyond_the_limit_is_refused_before_it_arrives(
    server: ServedBento, target: bytes, body: bytes, limit: int, more: int
) -> None:
    request = head(JSON_TYPE, length(limit + more), target=target)
    assert statuses(exchange(server, request, finish=False)) == [413]


@pytest.mark.parametrize(("target", "body", "limit"), LIMITS)
def test_chunks_beyond_the_limit_are_refused_before_the_last_one(
    server: ServedBento, target: bytes, body: bytes, limit: int
) -> None:
    request = head(JSON_TYPE, b"Transfer-Encoding: chunked", target=target)
    chunk = b"%x\r\n%s\r\n" % (limit + 1, body.ljust(limit + 1))
    # The response may be lost where the connection is closed while bytes are on their way.
    assert statuses(exchange(server, request, chunk, finish=False)) in ([413], [])


def test_pipelined_requests(server: ServedBento) -> None:
    """They are answered one after the other."""
    one = b"POST /predict HTTP/1.1\r\nHost: churn\r\n%s\r\n%s\r\n\r\n" % (
        JSON_TYPE,
        length(len(BODY)),
    )
    last = head(method=b"GET", target=b"/health")
    assert statuses(exchange(server, (one + BODY) * 20 + last, finish=False)) == [200] * 21


def test_a_request_byte_by_byte(server: ServedBento) -> None:
    request = head(JSON_TYPE, length(len(BODY))) + BODY
    received = exchange(server, *(request[i : i + 1] for i in range(len(request))), finish=False)
    assert statuses(received) == [200]
