"""Message of the error that invalid settings raise."""

from collections.abc import Callable

import pytest

from churn_assets.core.settings_errors import SettingsError


def settings_message(
    load_settings: Callable[[], object], monkeypatch: pytest.MonkeyPatch, **variables: object
) -> str:
    """Sets environment variables and returns the message with which the settings are refused."""
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value)
