"""Settings of the fetcher, and texts for its messages."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

SCHEMES = ("s3", "gs", "https", "http", "file")

SETTINGS = {
    "CHURN_FETCH_URL": "model.archive.url",
    "CHURN_FETCH_SHA256": "model.archive.sha256",
    "CHURN_FETCH_CONTRACT": "model.archive.contract",
    "CHURN_FETCH_TARGET": "",
    "CHURN_FETCH_TIMEOUT": "model.archive.timeoutSeconds",
    "CHURN_FETCH_MAX_BYTES": "model.archive.maxBytes",
}
"""The settings, and the values of the chart that set them."""


class FetchError(Exception):
    """The bento cannot be had; a retry does not help. The message is one line."""


@dataclass(frozen=True)
class Settings:
    """Settings of the command.

    Attributes:
        url: Address of the archive.
        sha256: Checksum of the archive, 64 hexadecimal digits.
        contract: Name of the contract that the bento must be of.
        target: Folder that the bento becomes. Its parent is the volume.
        timeout: Seconds within which the archive must be fetched, over all attempts.
        max_bytes: Largest archive, and largest sum of its files.
    """

    url: str
    sha256: str
    contract: str
    target: Path
    timeout: float
    max_bytes: int


def load_settings(variables: Mapping[str, str]) -> Settings:
    """Reads the settings.

    Raises:
        FetchError: Variables are missing or wrong; the message names all of them.
    """
    url, sha256, contract, target, timeout, max_bytes = (
        variables.get(name, "").strip() for name in SETTINGS
    )
    schemes = ", ".join(f"{scheme}://" for scheme in SCHEMES)
    rules = {
        "CHURN_FETCH_URL": (url.partition("://")[0] in SCHEMES, f"a URL with one of {schemes}"),
        "CHURN_FETCH_SHA256": (
            re.fullmatch("[0-9a-fA-F]{64}", sha256),
            "the archive's SHA-256 in 64 hexadecimal digits",
        ),
        "CHURN_FETCH_CONTRACT": (contract, "the name of a contract, such as telecom"),
        "CHURN_FETCH_TARGET": (
            Path(target).is_absolute() and Path(target).parent != Path(target),
            "an absolute path of a folder in the volume, such as /volume/bento",
        ),
        "CHURN_FETCH_TIMEOUT": (
            re.fullmatch(r"\d+(\.\d+)?", timeout or "300") and float(timeout or 300) > 0,
            "seconds above 0",
        ),
        "CHURN_FETCH_MAX_BYTES": (
            re.fullmatch("[1-9][0-9]*", max_bytes or "1"),
            "a number of bytes above 0",
        ),
    }
    if problems := broken_rules(variables, rules, named):
        raise FetchError(problems)
    return Settings(
        url, sha256.lower(), contract, Path(target), float(timeout or 300), int(max_bytes or 2**30)
    )


def broken_rules(
    variables: Mapping[str, str],
    rules: Mapping[str, tuple[object, str]],
    named: Callable[[str], str] = str,
) -> str:
    """Returns the problems of variables in one line; "" where there are none.

    Args:
        rules: By variable, whether its value is right, and what to set.
        named: Returns how a variable is named in the line.
    """
    return "; ".join(
        f"{named(name)} is {shown(variables.get(name, ''))!r}: set {rule}"
        for name, (ok, rule) in rules.items()
        if not ok
    )


def named(setting: str) -> str:
    """Returns the name of a setting, with the value of the chart that sets it."""
    value = SETTINGS[setting]
    return f"{setting} ({value} in the chart)" if value else setting


def url_is(settings: Settings) -> str:
    """Returns the beginning of a message about the URL."""
    return f"{named('CHURN_FETCH_URL')} is {shown(settings.url)!r}"


def shown(url: str) -> str:
    """Returns a URL without user, password and query, which may be secrets."""
    return re.sub(r"://[^/@\s]*@", "://***@", re.sub(r"[?#]\S*", "?***", url))


def redacted(text: str) -> str:
    """Returns a text in which every URL is shown without secrets."""
    return re.sub(r"\w+://[^\s'\"]+", lambda found: shown(found[0]), text)


def reason(error: BaseException) -> str:
    """Returns an error in one line, without secrets of a URL."""
    text = " ".join(redacted(str(error)).split())
    return f"{type(error).__name__}: {text}"[:500] if text else type(error).__name__
