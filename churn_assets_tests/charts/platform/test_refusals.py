"""Wrong values of the platform's chart are refused, with what to set."""

from pathlib import Path

import pytest

from churn_assets_tests.charts.platform.rendering import EVERYTHING, SMALL, TRIAL, rendered
from churn_assets_tests.charts.rendering import RefusedError, Values, at, merged

pytestmark = pytest.mark.charts

REFUSED: dict[str, tuple[Values, str]] = {
    "no tag": (at("image.tag", ""), "image.tag and image.digest are empty: set one"),
    "latest": (at("image.tag", "latest"), 'image.tag is "latest"'),
    "latest database": (
        merged(TRIAL, at("postgresql.trial.image.tag", "latest")),
        'postgresql.trial.image.tag is "latest"',
    ),
    "unknown contract": (at("contract.name", "acme"), "--set-file contract.file=acme.py"),
    "contract's path": (at("contract.file", "acme.py"), "--set-file reads a file"),
    "contract's name": (
        at("contract", {"name": "Acme-1", "file": "CustomerContract"}),
        'contract.name is "Acme-1"',
    ),
    "steps in a run's pod": (
        at("settings.step_resources", {"churn_model": {}}),
        "so set runs.resources",
    ),
    "no storage": (at("storage.existingClaim", ""), "set exactly one of them, not 0"),
    "two storages": (at("storage.url", "s3://a/b"), "set exactly one of them, not 2"),
    "a folder": (
        at("storage", {"existingClaim": "", "url": "/srv"}),
        'storage.url is "/srv": set s3://, gs:// or abfs://',
    ),
    "open secret": (
        at("storage.env", {"AWS_SECRET_ACCESS_KEY": "a"}),
        "storage.env has AWS_SECRET_ACCESS_KEY: a secret belongs into the Secret",
    ),
    "setting in the store's": (
        at("storage.env", {"CHURN_SEED": "1"}), "set the value of `settings`"
    ),
    "no database": (at("postgresql.host", ""), "postgresql.host is empty"),
    "two databases": (at("postgresql.trial.enabled", True), "set only one of them"),
    "no account": (at("postgresql.existingSecret", ""), "the entries username and password"),
    "no account of MLflow": (at("mlflow.existingSecret", ""), "flask-secret-key"),
    "no scheme": (at("mlflow.trackingUri", "mlflow:5000"), "set https://..., or leave it empty"),
    "password in a URI": (at("mlflow.trackingUri", "https://a:b@c"), "has a password"),
    "UI without passwords": (at("webserver.passwordsSecret", ""), "the UI starts runs"),
    "entries of no secret": (
        at("settingsSecret.entries", ["CHURN_LAKE_OPTIONS"]),
        "settingsSecret.name is empty",
    ),
    "no host": (merged(EVERYTHING, at("ingress.hosts", [])), "ingress.hosts is empty"),
    "no TLS": (merged(EVERYTHING, at("ingress.tls", [])), "ingress.tls is empty"),
    "gateway out of reach": (
        merged(EVERYTHING, at("networkPolicy.gateway", {"namespaceLabels": None})),
        "networkPolicy.gateway is empty",
    ),
    "database out of reach": (
        at("networkPolicy.postgresql", []), "networkPolicy.postgresql is empty"
    ),
    "store out of reach": (
        merged(EVERYTHING, at("networkPolicy.extraEgress", [])),
        "networkPolicy.extraEgress is empty",
    ),
    "no names": (
        at("networkPolicy.dns", {"namespaceLabels": None, "podLabels": None}),
        "networkPolicy.dns is empty",
    ),
    "unknown setting": (at("settings.sed", 1), "sed"),
    "setting of the chart": (at("settings.lake", "s3://a"), "lake"),
    "secret setting": (at("settings.alerts", {"webhook": "https://a"}), "webhook"),
    "setting out of range": (at("settings.limits", {"min_auc": 2}), "min_auc"),
    "unknown executor": (at("settings.executor", "celery"), "executor"),
    "no memory limit": (at("runs.resources.limits", {"memory": None}), "memory"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_value_is_refused(helm: Path, name: str) -> None:
    values, message = REFUSED[name]
    with pytest.raises(RefusedError) as refused:
        rendered(helm, merged(SMALL, values))
    assert message in str(refused.value)


def test_all_problems_are_named_at_once(helm: Path) -> None:
    with pytest.raises(RefusedError) as refused:
        rendered(helm, {})
    assert str(refused.value).count("\n  - ") == 6
