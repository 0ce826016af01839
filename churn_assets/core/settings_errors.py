"""Errors of settings that are read from environment variables, for the platform and the service.

Needs only pydantic, because the serving process imports this module.
"""

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

Settings = TypeVar("Settings")


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
