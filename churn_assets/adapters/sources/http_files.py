"""Files at http:// and https:// URLs: versions, copies, and errors that name URL and cause."""

import hashlib
import re
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import httpx

from churn_assets.adapters.sources.source import SourceError, SourceUnavailableError

HTTP_LINK = re.compile(r"(?is)(?:^|::)(https?://.*)$")
"""The URL in a path: all of it, or the last link of a chain such as `zip://a.csv::https://...`."""

ABSENT = {403, 404, 410}
"""Statuses of a file that does not exist. Stores respond with 403 where a name is not listed."""
RETRYABLE = {408, 425, 429}
"""Statuses below 500 after which a retry may help."""
TIMEOUT = 10.0
"""Seconds to wait for a connection, or for the next bytes of a response."""


class HttpFiles:
    """Files of HTTP servers."""

    def version(self, url: str) -> str | None:
        """Returns a text that changes with the file at a URL; None where there is no file.

        The text is the ETag of the response, else its Last-Modified and Content-Length, else a hash
        of the content.

        Raises:
            SourceUnavailableError: The server does not respond, or not with a whole file.
            SourceError: The server responds with neither the file nor its absence.
        """
        with self._client(url) as client:
            head = client.head(url)
            if head.status_code == 200 and (version := _version_in(head.headers)):
                return version
            # HEAD is cheap, but a signed URL may allow GET alone, and some servers know no HEAD.
            with client.stream("GET", url) as response:
                if response.status_code in ABSENT:
                    return None
                _refuse_unusable(response, url)
                return _version_in(response.headers) or _hash(response)

    def download(self, url: str, target: Path) -> None:
        """Writes the file at a URL to a local file.

        Raises:
            SourceUnavailableError: The file does not exist, or the response is not whole.
            SourceError: The server responds with neither the file nor its absence.
        """
        with self._client(url) as client, client.stream("GET", url) as response:
            if response.status_code in ABSENT:
                raise SourceUnavailableError(f"{url} does not exist (yet): {_status(response)}")
            _refuse_unusable(response, url)
            with target.open("wb") as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        context = httpx.create_ssl_context()
        context.load_default_certs()  # a company's own authority is known to the system alone
        return context

    @contextmanager
    def _client(self, url: str) -> Iterator[httpx.Client]:
        # A compressed transfer would have another ETag and size than the file.
        headers = {"Accept-Encoding": "identity"}
        try:
            with httpx.Client(
                verify=self._trusted, headers=headers, timeout=TIMEOUT, follow_redirects=True
            ) as client:
                yield client
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise SourceError(f"{url} cannot be read: {error}") from error
        except httpx.TooManyRedirects as error:
            raise SourceError(f"{url} cannot be read: the server redirects in a circle") from error
        except httpx.HTTPError as error:
            cause = str(error) or type(error).__name__
            if _is_about_certificate(error):
                raise SourceError(
                    f"{url} cannot be read: the certificate of the server is not valid: {cause}"
                ) from error
            raise SourceUnavailableError(f"{url} cannot be read (completely): {cause}") from error


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Yields a path that reads the same without HTTP: a file at a URL is downloaded first.

    Raises:
        SourceError: The file at the URL cannot be downloaded.
    """
    link = HTTP_LINK.search(path)
    if not link:
        yield path
        return
    url, chain = link[1], path[: link.start(1)]
    with tempfile.TemporaryDirectory() as folder:
        # The suffixes name the format and the compression; the query of a signed URL does not.
        suffixes = re.search(r"(\.\w+)*$", re.split("[?#]", url, maxsplit=1)[0])
        copy = Path(folder, "file" + (suffixes[0] if suffixes else ""))
        HttpFiles().download(url, copy)
        yield f"{chain}file://{copy}" if chain else str(copy)


def _version_in(headers: httpx.Headers) -> str | None:
    if tag := headers.get("ETag"):
        return f"ETag {tag}"
    if modified := headers.get("Last-Modified"):
        return f"Last-Modified {modified}, Content-Length {headers.get('Content-Length')}"
    return None


def _hash(response: httpx.Response) -> str:
    digest = hashlib.sha256()
    for chunk in response.iter_bytes():
        digest.update(chunk)
    return f"sha256 {digest.hexdigest()}"


def _refuse_unusable(response: httpx.Response, url: str) -> None:
    status = response.status_code
    if status == 200:
        return
    retryable = status >= 500 or status in RETRYABLE
    kind = SourceUnavailableError if retryable else SourceError
    raise kind(f"{url} cannot be read: {_status(response)}")


def _status(response: httpx.Response) -> str:
    return f"the server responds with {response.status_code} {response.reason_phrase}".rstrip()


def _is_about_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
