"""Files at HTTP servers: their versions, their content, and errors that name URL and cause."""

import gzip
import io
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from churn_assets.adapters.sources import http_files
from churn_assets.adapters.sources.file import FileSource
from churn_assets.adapters.sources.file_versions import FileVersions
from churn_assets.adapters.sources.source import SourceError, SourceUnavailableError
from churn_assets.adapters.sources.tabular import read_table
from churn_assets.contracts.loading import load_contract
from churn_assets_tests.adapters.file_server import Files, file_server
from churn_assets_tests.adapters.receivers import self_signed
from churn_assets_tests.defs.graph import customers

TELECOM = load_contract("telecom")
CSV = b"a,b\n1,2\n"
MONDAY, TUESDAY = (
    {"Last-Modified": f"{day} Nov 2026 08:00:00 GMT"} for day in ("Mon, 02", "Tue, 03")
)


@pytest.fixture
def files() -> Iterator[Files]:
    with file_server() as served:
        yield served


def version(url: str) -> str | None:
    """The version that another process would compute."""
    return FileVersions().version(url)


def read(url: str) -> list[list[str]]:
    return read_table(url, ",", "utf-8").to_numpy().tolist()


def error_of(url: str) -> SourceError:
    """The error of the version and of the content, which are of one kind and name the URL."""
    errors = []
    for look_up in (version, read):
        with pytest.raises(SourceError) as caught:
            look_up(url)
        errors.append(caught.value)
        assert url in str(caught.value)
    assert type(errors[0]) is type(errors[1])
    return errors[0]


# Versions


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((CSV, {"ETag": '"1"'}), (CSV, {"ETag": '"2"'})),
        ((CSV, {"ETag": '"1"', **MONDAY}), (CSV, {"ETag": '"2"', **MONDAY})),
        ((CSV, MONDAY), (CSV, TUESDAY)),
        ((CSV, MONDAY), (CSV + b"3,4\n", MONDAY)),
        ((CSV, {}), (b"a,b\n1,3\n", {})),
    ],
    ids=["etag", "etag-first", "last-modified", "content-length", "content"],
)
def test_a_file_delivered_again_has_another_version(
    files: Files, first: tuple[bytes, dict[str, str]], second: tuple[bytes, dict[str, str]]
) -> None:
    url = files.put("a.csv", first[0], headers=first[1])
    before = version(url)
    assert before is not None
    assert version(url) == before
    files.put("a.csv", second[0], headers=second[1])
    assert version(url) not in (None, before)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((CSV, {"ETag": '"1"', **MONDAY}), (CSV, {"ETag": '"1"', **TUESDAY})),
        ((CSV, MONDAY), (b"a,b\n1,3\n", MONDAY)),
        ((CSV, {"Date": "x"}), (CSV, {"Date": "y"})),
    ],
    ids=["etag", "last-modified", "content"],
)
def test_only_the_strongest_validator_counts(
    files: Files, before: tuple[bytes, dict[str, str]], after: tuple[bytes, dict[str, str]]
) -> None:
    first = version(files.put("a.csv", before[0], headers=before[1]))
    assert version(files.put("a.csv", after[0], headers=after[1])) == first


def test_a_version_in_the_headers_downloads_nothing(files: Files) -> None:
    for headers in ({"ETag": '"1"'}, MONDAY):
        assert version(files.put("a.csv", CSV, headers=headers))
    assert files.requests == ["HEAD a.csv", "HEAD a.csv"]


@pytest.mark.parametrize("status", [403, 404, 405, 501, 503])
def test_a_server_that_refuses_head_is_asked_by_get(files: Files, status: int) -> None:
    url = files.put("a.csv", CSV, headers={"ETag": '"1"'}, head_status=status)
    assert version(url) == 'ETag "1"'
    assert files.requests == ["HEAD a.csv", "GET a.csv"]


def test_a_file_without_a_size_has_a_version(files: Files) -> None:
    url = files.put("a.csv", CSV, headers=MONDAY, sized=False)
    assert version(url) == "Last-Modified Mon, 02 Nov 2026 08:00:00 GMT, Content-Length None"


@pytest.mark.parametrize("status", [403, 404, 410])
def test_an_absent_file_is_no_month(files: Files, status: int) -> None:
    url = files.put("2026-02.csv", status=status)
    assert version(url) is None
    with pytest.raises(SourceUnavailableError, match=f"does not exist .*{status}") as caught:
        read(url)
    assert url in str(caught.value)


def test_months_are_delivered_once_their_urls_exist(files: Files) -> None:
    body = customers(3).to_csv(index=False).encode()
    files.put("2026-01.csv", body, headers={"ETag": '"1"'})
    source = FileSource(TELECOM, f"{files.root}/{{month}}.csv")
    assert source.customers_version("2026-01") == source.labels_version("2026-01") == 'ETag "1"'
    assert source.customers_version("2026-02") is None
    assert len(source.snapshot("2026-01")) == 3
    files.put("2026-02.csv", body, headers={"ETag": '"1"'})
    assert source.customers_version("2026-02") is not None


# Content


@pytest.mark.parametrize("query", ["", "?signature=a.b/c&x=d.csv", "#part"])
def test_the_suffix_of_a_url_names_the_format(files: Files, query: str) -> None:
    parquet = io.BytesIO()
    customers(3).to_parquet(parquet)
    for name, body in (("a.csv", CSV), ("b.csv.gz", gzip.compress(CSV)), ("c", CSV)):
        assert read(files.put(name, body) + query) == [["1", "2"]]
    assert len(read(files.put("d.parquet", parquet.getvalue()) + query)) == 3


def archive(**members: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as written:
        for name, body in members.items():
            written.writestr(f"{name}.csv", body)
    return target.getvalue()


def test_a_file_of_an_archive_changes_with_its_own_content(files: Files) -> None:
    files.put("all.zip", archive(a=CSV, b=CSV), headers={"ETag": '"1"'})
    a, b, c = (f"zip://{name}.csv::{files.root}/all.zip" for name in "abc")
    versions = FileVersions()
    first = [versions.version(path) for path in (a, b, c)]
    assert first[0] == first[1] is not None
    assert first[2] is None
    assert read(a) == [["1", "2"]]
    requests = len(files.requests)
    assert [versions.version(path) for path in (a, b, c)] == first
    assert files.requests[requests:] == ["HEAD all.zip"] * 3, "the archive is not loaded again"
    files.put("all.zip", archive(a=CSV, b=CSV + b"3,4\n", c=CSV), headers={"ETag": '"2"'})
    assert versions.version(a) == first[0]
    assert versions.version(b) not in (None, first[1])
    assert versions.version(c) == first[0]


def test_a_file_that_fsspec_caches_is_never_stale(files: Files) -> None:
    url = f"simplecache::{files.put('a.csv', CSV)}"
    first = version(url)
    assert read(url) == [["1", "2"]]
    files.put("a.csv", b"a,b\n3,4\n")
    assert version(url) not in (None, first)
    assert read(url) == [["3", "4"]]


def test_a_redirect_leads_to_the_file(files: Files) -> None:
    files.put("new.csv", CSV, headers={"ETag": '"7"'})
    url = files.put("old.csv", status=302, headers={"Location": "/new.csv"})
    assert version(url) == 'ETag "7"'
    assert read(url) == [["1", "2"]]


# Errors


@pytest.mark.parametrize("status", [204, 304, 400, 401, 407, 409, 411, 424, 426, 428, 499])
def test_a_response_without_a_file_is_final(files: Files, status: int) -> None:
    error = error_of(files.put("a.csv", status=status, sized=False))
    assert not isinstance(error, SourceUnavailableError)
    assert f"the server responds with {status}" in str(error)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503, 599])
def test_a_server_with_an_error_is_unavailable(files: Files, status: int) -> None:
    error = error_of(files.put("a.csv", status=status))
    assert isinstance(error, SourceUnavailableError)
    assert f"the server responds with {status}" in str(error)


def test_a_server_that_is_down_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = error_of(f"http://127.0.0.1:{port}/a.csv")
    assert isinstance(error, SourceUnavailableError)
    assert "refused" in str(error)


def test_a_server_that_does_not_respond_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_files, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = error_of(f"http://127.0.0.1:{silent.getsockname()[1]}/a.csv")
    assert isinstance(error, SourceUnavailableError)
    assert "timed out" in str(error)


def test_redirects_in_a_circle_are_final(files: Files) -> None:
    files.put("b.csv", status=307, headers={"Location": "/a.csv"})
    error = error_of(files.put("a.csv", status=302, headers={"Location": "/b.csv"}))
    assert not isinstance(error, SourceUnavailableError)
    assert "the server redirects in a circle" in str(error)


def test_a_redirect_to_another_protocol_is_final(files: Files) -> None:
    error = error_of(files.put("a.csv", status=302, headers={"Location": "file:///etc/passwd"}))
    assert not isinstance(error, SourceUnavailableError)
    assert "cannot be read: Request URL has an unsupported protocol 'file://'" in str(error)


@pytest.mark.parametrize("url", ["http://", "http://[::1/a.csv", "https://127.0.0.1:port/a.csv"])
def test_an_invalid_url_is_final(url: str) -> None:
    assert not isinstance(error_of(url), SourceUnavailableError)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_body_that_ends_early_is_no_table(files: Files, missing: int) -> None:
    url = files.put("a.csv", CSV, missing=missing)
    if not missing:
        assert read(url) == [["1", "2"]]
        assert version(url) is not None
        return
    error = error_of(url)
    assert isinstance(error, SourceUnavailableError)
    assert f"received {len(CSV)} bytes, expected {len(CSV) + 1}" in str(error)


def test_a_certificate_that_is_not_trusted_is_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    with file_server(certificate) as files:
        url = files.put("a.csv", CSV)
        error = error_of(url)
        assert not isinstance(error, SourceUnavailableError)
        assert "the certificate of the server is not valid" in str(error)
        assert "self-signed certificate" in str(error)
        other = url.replace("127.0.0.1", "localhost")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert read(url) == [["1", "2"]]
        assert version(url) is not None
        assert "localhost" in str(error_of(other)), "trusted, but of another host"
