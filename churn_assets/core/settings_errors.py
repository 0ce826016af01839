"""Errors of settings that are read from environment variables, for the platform and the service.

Needs only pydantic, because the serving process imports this module.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

Settings = TypeVar("Settings")

SPECIAL = re.compile(r"::|[#?*\[\]\\^|\x00-\x1f\x7f\ud800-\udfff]|%[0-9A-Fa-f]{2}")
"""What Delta Lake, sqlite, MLflow, Dagster or BentoML reads as a part of a URL, as an escape or as
a pattern: some of their files would be elsewhere, or nowhere."""


class SettingsError(ValueError):
    """Invalid settings; the message lists every wrong variable."""


def read_settings(
    settings: Callable[[], Settings], describe: Callable[[Any], str], unknown: Sequence[str]
) -> Settings:
    """Creates settings and collects all faults in one error.

    Args:
        settings: Settings class, which reads the environment.
        describe: Returns the message of one error of `ValidationError.errors()`.
        unknown: Messages about unknown variables, which pydantic does not see.

    Raises:
        SettingsError: The message names every wrong variable, its value and the rule.
    """
    faults = list(unknown)
    try:
        read = settings()
    except ValidationError as error:
        faults += [describe(details) for details in error.errors()]
    if faults:
        raise SettingsError("wrong settings:\n" + "\n".join(f"  - {fault}" for fault in faults))
    return read


def broken_rule(message: str) -> str:
    """Returns the rule that a message of pydantic states, without pydantic's prefix."""
    return message.removeprefix("Value error, ")


def unknown_variable(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Describes a variable that is not a setting, with the known one whose name is closest.

    Args:
        name: Name of the variable.
        known: Names of the variables that are settings.
        prefix: Prefix of all names that the comparison leaves out.
    """
    variables = {variable.removeprefix(prefix): variable for variable in known}
    close = difflib.get_close_matches(name.removeprefix(prefix), variables, n=1)
    hint = f"; did you mean {variables[close[0]]}?" if close else ""
    return f"{name} is not a setting{hint}"


def plain_path(path: str) -> str:
    """Returns a path unchanged if every store can keep its files there.

    Raises:
        ValueError: The path has characters that some store does not take as they are.
    """
    if found := SPECIAL.search(path):
        raise ValueError(
            f"{found[0]!r} has a meaning of its own in URLs and patterns; set a path without "
            "# ? * [ ] \\ ^ | :: and codes such as %41, and without control characters"
        )
    return path
