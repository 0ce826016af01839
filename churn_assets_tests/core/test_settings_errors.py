import pytest
from pydantic import BaseModel, field_validator

from churn_assets.core.settings_errors import (
    SettingsError,
    broken_rule,
    plain_path,
    read_settings,
    unknown_variable,
)


class Numbers(BaseModel):
    low: int
    high: int

    @field_validator("high")
    @classmethod
    def _even(cls, high: int) -> int:
        if high % 2:
            raise ValueError("must be even")
        return high


def test_valid_settings_are_returned() -> None:
    read = read_settings(lambda: Numbers(low=1, high=2), str, [])
    assert read == Numbers(low=1, high=2)


def test_the_error_lists_unknown_variables_and_every_error_of_pydantic() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(
            lambda: Numbers.model_validate({"low": "x", "high": 3}),
            lambda details: f"{details['loc'][0]}: {broken_rule(details['msg'])}",
            ["CHURN_X is not a setting"],
        )
    first, *faults = str(caught.value).splitlines()
    assert first == "wrong settings:"
    assert [fault.split(":")[0] for fault in faults] == [
        "  - CHURN_X is not a setting",
        "  - low",
        "  - high",
    ]
    assert faults[-1] == "  - high: must be even"


def test_unknown_variables_alone_are_an_error() -> None:
    with pytest.raises(SettingsError, match="CHURN_X is not a setting"):
        read_settings(lambda: Numbers(low=1, high=2), str, ["CHURN_X is not a setting"])


@pytest.mark.parametrize(
    ("name", "prefix", "expected"),
    [
        ("CHURN_HOEM", "", "CHURN_HOEM is not a setting; did you mean CHURN_HOME?"),
        ("CHURN_XYZZY", "CHURN_", "CHURN_XYZZY is not a setting"),
        ("OTHER", "", "OTHER is not a setting"),
    ],
)
def test_an_unknown_variable_is_named_with_the_closest_setting(
    name: str, prefix: str, expected: str
) -> None:
    assert unknown_variable(name, ["CHURN_HOME", "CHURN_SEED"], prefix) == expected


@pytest.mark.parametrize("part", [*"#?*[]\\^|\t\n\x7f\udce9", "%41", "%fF", "::"])
@pytest.mark.parametrize("place", ["{}x", "x{}x", "x{}"])
def test_a_path_with_a_special_part_is_refused(place: str, part: str) -> None:
    with pytest.raises(ValueError, match="has a meaning of its own") as caught:
        plain_path(f"/data/{place.format(part)}/home")
    assert repr(part) in str(caught.value)


@pytest.mark.parametrize(
    "name", ["a b", "it's", 'a"b', "a$b", "a;b&c", "a:b", "50%", "%4", "%4g", "{month}", "mü", "日"]
)
def test_any_other_path_is_returned(name: str) -> None:
    assert plain_path(f"/data/{name}/home") == f"/data/{name}/home"
