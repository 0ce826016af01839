"""Every value of the platform's chart is described and has an effect, and no other is accepted."""

import json
from pathlib import Path
from typing import Any

import pytest

from churn_assets_tests.charts.platform.rendering import CHART, EVERYTHING, SMALL, TRIAL, rendered
from churn_assets_tests.charts.rendering import RefusedError, Values, at, loaded, merged
from churn_assets_tests.charts.schemas import closed, objects, script, unknown

pytestmark = pytest.mark.charts

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS = loaded(CHART / "values.yaml")
QUANTITIES = {"requests": {"cpu": "300m"}, "limits": {"memory": "300Mi"}}
RULE = [{"ports": [{"port": 9000}]}]

OTHER: dict[str, Any] = {
    "image.digest": "sha256:" + "a" * 64,
    "imagePullSecrets": [{"name": "registry"}],
    "contract.name": "other",
    "contract.file": "class Other(CustomerContract): ...",
    "settings": {"seed": 7},
    "settingsSecret.entries": ["CHURN_LAKE_OPTIONS"],
    "storage.create.accessModes": ["ReadWriteOnce"],
    "storage.url": "gs://other/churn",
    "storage.predictions": "s3://logs/predictions",
    "storage.env": {"AWS_REGION": "eu-central-1"},
    "postgresql.sslmode": "require",
    "postgresql.trial.image.digest": "sha256:" + "a" * 64,
    "mlflow.trackingUri": "https://mlflow.test",
    "mlflow.allowedHosts": ["mlflow.test"],
    "ingress.hosts": ["other.test"],
    "ingress.tls": [{"secretName": "other", "hosts": ["other.test"]}],
    "networkPolicy.apiServer": RULE,
    "networkPolicy.postgresql": RULE,
    "networkPolicy.extraEgress": RULE,
    "tolerations": [{"key": "spot", "operator": "Exists"}],
}
"""Other values for those that no rule of `other` finds."""

CLAIMED = at("storage", {"existingClaim": "", "create": {"enabled": True}})
BASES: dict[str, Values] = {
    "postgresql.trial": TRIAL,
    "postgresql.host": SMALL,
    "storage.create.enabled": merged(SMALL, at("storage.existingClaim", "")),
    "storage.create": merged(SMALL, CLAIMED),
    "storage.existingClaim": SMALL,
}
"""Values with which a value counts, by a part of its path."""

TOGETHER: dict[str, Values] = {
    "postgresql.trial.enabled": at("postgresql.host", "pg.test"),
    "storage.create.enabled": at("storage.existingClaim", "other"),
}
"""What must be set with a value, which excludes another one."""


def base(path: str) -> Values:
    names = path.split(".")
    parts = (".".join(names[:count]) for count in range(len(names), 0, -1))
    return merged(DEFAULTS, next((BASES[part] for part in parts if part in BASES), EVERYTHING))


def other(path: str, now: Any) -> Any:
    """Returns another valid value."""
    if path in OTHER:
        return OTHER[path]
    if path.endswith("resources"):
        return QUANTITIES
    node = SCHEMA
    for name in path.split("."):
        node = node["properties"][name]
    if "enum" in node:
        return next(value for value in node["enum"] if value != now)
    if isinstance(now, bool):
        return not now
    if isinstance(now, int):
        return now + 1
    if isinstance(now, dict):
        return {"example": "other"}
    return "3Gi" if now.endswith("Gi") else "other"


def paths() -> list[str]:
    leaves = script().leaves(DEFAULTS)
    whole = {path.partition(".resources")[0] + ".resources" if ".resources" in path else path
             for path in leaves}  # fmt: skip
    return sorted(whole)


@pytest.mark.parametrize("path", paths())
def test_every_value_has_an_effect(helm: Path, path: str) -> None:
    before = base(path)
    now: Any = before
    for name in path.split("."):
        now = now[name]
    if path == "storage.create.enabled":
        before = merged(before, at(path, True))
        after = merged(before, at(path, False), TOGETHER[path])
    elif path == "postgresql.trial.enabled":
        after = merged(
            before, at(path, False), TOGETHER[path], at("networkPolicy.postgresql", RULE)
        )
    else:
        after = merged(before, at(path, other(path, now)))
    assert rendered(helm, after) != rendered(helm, before)


def test_readme_and_descriptions_are_current() -> None:
    for path, text in script().outputs(CHART).items():
        assert path.read_text(encoding="utf-8") == text, "run `python helm/chart_readme.py`"


def test_every_value_is_described() -> None:
    nameless = [
        f"{path}.{name}"
        for path, node in objects(SCHEMA, SCHEMA)
        if path.partition(".")[0] != "settings" and not path.endswith((".requests", ".limits"))
        for name, child in node.get("properties", {}).items()
        if not child.get("description") and name != "global"
    ]
    assert nameless == []


@pytest.mark.parametrize("path", closed(SCHEMA))
def test_an_unknown_key_is_refused(helm: Path, path: str) -> None:
    with pytest.raises(RefusedError, match=r"(?i)additional propert.* .?notAKey"):
        rendered(helm, merged(SMALL, unknown(path)))
