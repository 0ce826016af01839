"""Releases of the platform's chart."""

from functools import partial

from churn_assets_tests.charts.rendering import REPO, Values, loaded, merged, render

CHART = REPO / "helm" / "churn-platform"
NAME = "churn-churn-platform"
rendered = partial(render, chart=CHART)

SMALL: Values = {
    "image": {"tag": "1.2.3"},
    "storage": {"existingClaim": "churn-storage"},
    "postgresql": {"host": "pg.crm.svc", "existingSecret": "pg"},
    "mlflow": {"existingSecret": "mlflow"},
    "webserver": {"passwordsSecret": "ui"},
    "networkPolicy": {"postgresql": [{"ports": [{"port": 5432}]}]},
}
"""The fewest values that are accepted."""

TRIAL: Values = loaded(CHART / "values-test.yaml")

EVERYTHING: Values = merged(
    SMALL,
    {
        "contract": {"name": "acme", "file": "class Acme(CustomerContract):\n    pass\n"},
        "settings": {
            "executor": "k8s",
            "training_months": 6,
            "step_resources": {"churn_model": {"limits": {"memory": "4Gi"}}},
            "alerts": {"ui_url": "https://dagster.test"},
            "limits": {"min_auc": 0.7},
        },
        "settingsSecret": {"name": "churn-settings", "entries": ["CHURN_ALERTS__WEBHOOK"]},
        "idKey": {"existingSecret": "churn-id-key"},
        "storage": {
            "existingClaim": "",
            "url": "s3://bucket/churn/",
            "existingSecret": "store",
            "env": {"AWS_ENDPOINT_URL": "https://s3.test"},
        },
        "webserver": {"replicas": 2},
        "ingress": {
            "enabled": True,
            "hosts": ["dagster.test"],
            "tls": [{"secretName": "tls", "hosts": ["dagster.test"]}],
        },
        "networkPolicy": {
            "gateway": {"namespaceLabels": {"name": "gateway"}},
            "extraEgress": [{"ports": [{"port": 443}]}],
        },
    },
)
RELEASES = {"small": SMALL, "trial": TRIAL, "everything": EVERYTHING}
