"""The traces of a request: a line in each log, a span at the collector, no personal value."""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from churn_service.observability.prediction_log import pseudonym
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from churn_assets.adapters.bentos import BentoStore, BuiltBento
from churn_assets_tests.bento.expected_responses import CUSTOMER, faulty_batch
from churn_assets_tests.bento.served_bento import JSON, ServedBento, eventually, served_bento
from churn_assets_tests.bentos import CONTRACT, customers

ID_KEY = "0123456789abcdef0123456789abcdef"
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

MICROSECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
SERVER_SPAN = Span.SpanKind.SPAN_KIND_SERVER


class Collector(ThreadingHTTPServer):
    """Receives traces as an OpenTelemetry collector does, by OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.spans: list[Span] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def server_spans(self, trace: str) -> list[Span]:
        """The server spans of one trace."""
        wanted = bytes.fromhex(trace)
        return [span for span in self.spans if (span.trace_id, span.kind) == (wanted, SERVER_SPAN)]


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        thread = Thread(target=collector.serve_forever, args=(0.05,))
        thread.start()
        yield collector
        collector.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def server(
    built: BuiltBento,
    store: BentoStore,
    collector: Collector,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServedBento]:
    folder = tmp_path_factory.mktemp("traces")
    key = folder / "id.key"
    key.write_text(ID_KEY)
    settings = {
        "CHURN_API_ID_KEY_FILE": str(key),
        "CHURN_API_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",  # ms between two exports
    }
    with served_bento(built, store, folder / "log", settings) as server:
        yield server


@pytest.mark.parametrize("request_id", ["a", "order-66.~_", "x" * 64])
def test_the_callers_request_id_is_kept(server: ServedBento, request_id: str) -> None:
    request_id = f"{request_id}-answered"[-64:]
    response = server.client.post("/predict", json=CUSTOMER, headers={"X-Request-ID": request_id})
    assert response.headers["X-Request-ID"] == request_id
    assert server.request_line(request_id)["status"] == 200


@pytest.mark.parametrize("request_id", [None, "", "x" * 65, "a b", 'a"b', "ä"])
def test_a_request_without_a_valid_id_gets_one(server: ServedBento, request_id: str | None) -> None:
    headers = {} if request_id is None else {"X-Request-ID": request_id.encode("latin-1")}
    generated = [
        server.client.get("/health", headers=headers).headers["X-Request-ID"],
        server.client.post("/predict", content=b"{", headers={**JSON, **headers}).headers[
            "X-Request-ID"
        ],
    ]
    assert len({*generated, request_id}) == 3
    assert server.request_line(generated[0])["status"] == 200
    assert server.request_line(generated[1])["status"] == 400


@pytest.mark.parametrize(
    ("method", "path", "body", "route", "status", "error_type", "customers"),
    [
        ("POST", "/predict", CUSTOMER, "/predict", 200, "", 1),
        ("POST", "/predict/batch?on_error=skip", faulty_batch(), "/predict/batch", 200, "", 3),
        ("POST", "/predict", {}, "/predict", 422, "validation", 0),
        ("GET", "/predict", None, "/predict", 405, "method-not-allowed", 0),
        ("GET", "/of-nobody?age=42", None, "/elsewhere", 404, "not-found", 0),
        ("GET", "/health", None, "/health", 200, "", 0),
    ],
)
def test_a_request_is_logged(
    server: ServedBento, method: str, path: str, body: Any, route: str, status: int,
    error_type: str, customers: int,
) -> None:  # fmt: skip
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-00"}
    response = server.client.request(method, path, json=body, headers=headers)
    line = server.request_line(response.headers["X-Request-ID"])
    moment = datetime.fromisoformat(line.pop("time"))
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 60
    assert 0 < line.pop("ms") < 10_000
    assert line == {
        "level": "INFO" if status == 200 else "WARNING",
        "logger": "churn.request",
        "request_id": response.headers["X-Request-ID"],
        "key_id": "",
        "trace_id": TRACE,
        "method": method,
        "route": route,
        "status": status,
        "customers": customers,
        "error_type": error_type,
    }


@pytest.mark.parametrize("route", ["/predict", "/predict/batch"])
def test_a_prediction_is_logged_without_a_personal_value(server: ServedBento, route: str) -> None:
    sent = customers(1) if route == "/predict" else customers(80)
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-00"}
    before = datetime.now(UTC)
    body = sent[0] if route == "/predict" else {"customers": sent}
    response = server.client.post(route, json=body, headers=headers).json()
    after = datetime.now(UTC)
    predictions = [response] if route == "/predict" else response["predictions"]
    lines = server.prediction_lines({one["prediction_id"] for one in predictions})
    key = ID_KEY.encode()
    personal = {column.name for column in CONTRACT.columns if column.personal}
    assert personal
    for customer, prediction in zip(sent, predictions, strict=True):
        line = lines[prediction["prediction_id"]]
        written = line.pop("time")
        assert MICROSECONDS.fullmatch(written)
        assert before <= datetime.fromisoformat(written) <= after
        assert line == {
            "prediction_id": prediction["prediction_id"],
            "endpoint": route,
            "key_id": "",
            "trace_id": TRACE,
            "model_version": "3",
            "degraded": False,
            "pod": "",
            "release": "",
            "template_hash": "",
            "role": "",
            "churn_probability": prediction["churn_probability"],
            "customer": pseudonym(key, "customer_id", customer["customer_id"]),
            "features": {
                column.name: pseudonym(key, column.name, customer[column.name])
                if column.name in personal
                else customer[column.name]
                for column in CONTRACT.features
            },
        }


def test_refused_requests_are_not_in_the_prediction_log(server: ServedBento) -> None:
    def count_lines() -> int:
        """Lines up to a new prediction: the log keeps the order of the requests."""
        last = server.client.post("/predict", json=CUSTOMER).json()["prediction_id"]
        server.prediction_lines({last})
        return sum(f.read_bytes().count(b"\n") for f in server.predictions.rglob("*.jsonl"))

    before = count_lines()
    server.client.post("/predict", json=CUSTOMER | {"late_payments": 13})
    server.client.post("/predict/batch", json=faulty_batch())
    assert count_lines() == before + 1


def test_a_span_of_the_callers_trace_arrives(server: ServedBento, collector: Collector) -> None:
    trace = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace}-{CALLER}-01"}
    for route, body in (("/predict", CUSTOMER), ("/predict/batch", {"customers": [CUSTOMER]})):
        assert server.client.post(route, json=body, headers=headers).status_code == 200
    spans = eventually(lambda: found if len(found := collector.server_spans(trace)) == 2 else None)
    assert {span.parent_span_id.hex() for span in spans} == {CALLER}
    assert all(span.end_time_unix_nano > span.start_time_unix_nano > 0 for span in spans)


def test_a_trace_that_the_caller_does_not_sample_is_not_exported(
    server: ServedBento, collector: Collector
) -> None:
    unsampled, sampled_trace = secrets.token_hex(16), secrets.token_hex(16)
    for trace, flags in ((unsampled, "00"), (sampled_trace, "01")):
        headers = {"traceparent": f"00-{trace}-{CALLER}-{flags}"}
        response = server.client.post("/predict", json=CUSTOMER, headers=headers)
        assert server.request_line(response.headers["X-Request-ID"])["trace_id"] == trace
    eventually(lambda: collector.server_spans(sampled_trace) or None)
    assert collector.server_spans(unsampled) == []


@pytest.mark.parametrize(
    "traceparent", [None, f"ff-{TRACE}-{CALLER}-01", f"00-{'0' * 32}-{CALLER}-01"]
)
def test_without_a_callers_trace_the_logs_have_the_id_of_a_new_one(
    server: ServedBento, collector: Collector, traceparent: str | None
) -> None:
    headers = {"traceparent": traceparent} if traceparent else {}
    response = server.client.post("/predict", json=CUSTOMER, headers=headers)
    trace = server.request_line(response.headers["X-Request-ID"])["trace_id"]
    assert len(bytes.fromhex(trace)) == 16
    assert trace not in (TRACE, "0" * 32)
    prediction = response.json()["prediction_id"]
    assert server.prediction_lines({prediction})[prediction]["trace_id"] == trace
    [span] = eventually(lambda: collector.server_spans(trace) or None)
    assert span.parent_span_id == b""


def test_probes_start_no_trace(server: ServedBento, collector: Collector) -> None:
    trace = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace}-{CALLER}-01"}
    for probe in ("/health", "/livez", "/readyz", "/metrics"):
        assert server.client.get(probe, headers=headers).status_code == 200
    server.client.post("/predict", json=CUSTOMER, headers=headers)
    [span] = eventually(lambda: collector.server_spans(trace) or None)
    assert "predict" in str(span.attributes)
