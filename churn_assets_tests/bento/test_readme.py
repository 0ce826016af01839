"""The statements in the README of the service are true."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from churn_service.http.routes import ROUTES, SMALL
from churn_service.inference.predictions import Prediction, Predictions
from churn_service.inference.request_parsing import MOST_CUSTOMERS, RequestParser
from churn_service.observability.line_files import NAME
from churn_service.observability.logs import FIELDS
from churn_service.problems import CHECKS, STATUS, URN
from churn_service.settings import PREFIX, ServiceSettings
from pydantic import TypeAdapter

from churn_assets.adapters.bentos import BentoStore, BuiltBento
from churn_assets.adapters.serving import serving
from churn_assets_tests.bentos import CONTRACT
from churn_assets_tests.documents import ROOT, blocks, sent

PATH = "bento/README.md"
README = (ROOT / PATH).read_text(encoding="utf-8")
PARSER = RequestParser(CONTRACT)
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in README.splitlines()
    if line.startswith("| `")
]


def documents(field: str) -> list[Any]:
    """The JSON examples that have a field."""
    return [found for text in blocks(PATH, "json") if field in (found := json.loads(text))]


def table(start: str) -> dict[str, list[str]]:
    """The rows whose first cell begins with `start`: the other cells by the first one."""
    return {first.strip("`"): rest for first, *rest in ROWS if first.strip("`").startswith(start)}


@pytest.mark.parametrize("document", [PATH, "README.md", "docs/tracing-a-prediction.md"])
def test_the_customer_in_every_example_is_valid(document: str) -> None:
    (customer,) = sent(document)
    assert PARSER.parse_customer(customer.encode()).model_dump()["age"] == 34


def test_the_example_of_a_batch_is_valid() -> None:
    (batch,) = (found for found in documents("customers") if "route" not in found)
    assert len(PARSER.parse_batch(json.dumps(batch).encode(), skip=False).customers) == 2


def test_every_example_of_a_response_has_its_fields() -> None:
    one, many = (TypeAdapter(kind) for kind in (Prediction, Predictions))
    (prediction,) = (found for found in documents("customer_id") if "churn_probability" in found)
    assert one.dump_python(one.validate_python(prediction)) == prediction
    (predictions,) = documents("predictions")
    assert many.dump_python(many.validate_python(predictions)) == predictions
    (problem,) = documents("type")
    assert STATUS[problem["type"].removeprefix(URN)] == problem["status"]
    (request,) = documents("route")
    assert tuple(request) == FIELDS


def test_the_table_of_problems_has_every_type_with_its_status() -> None:
    documented = {kind.removeprefix(URN): int(cells[0]) for kind, cells in table(URN).items()}
    assert documented == {kind: int(status) for kind, status in STATUS.items()}


def test_the_table_of_routes_has_every_route() -> None:
    documented = set(re.findall(r"`(?:GET|POST) (/\S*)`", README))
    assert documented >= set(ROUTES) - {"/"}
    assert f"1 to {MOST_CUSTOMERS:,} customers" in README
    assert f"{SMALL // 1024} KiB for one customer" in README
    assert all(f"`{check}`" in README for check in CHECKS)


def test_the_table_of_settings_has_every_default_and_limit() -> None:
    documented = table(PREFIX)
    fields = ServiceSettings.model_fields
    assert list(documented) == [PREFIX + name.upper() for name in fields]
    rules = ServiceSettings.model_json_schema()["properties"]
    for name, field in fields.items():
        default, allowed, _ = documented[PREFIX + name.upper()]
        if name == "prediction_log":
            assert default == "`$BENTOML_HOME/monitoring`"
        elif field.default is None:
            assert default == "not set"
        else:
            read: TypeAdapter[Any] = TypeAdapter(field.annotation or str)
            assert read.validate_strings(default.strip("`")) == field.default, name
        if "maximum" in (rule := rules[name]):
            low = rule.get("minimum", f"above {rule.get('exclusiveMinimum')}")
            assert allowed == f"{low} to {rule['maximum']}".replace(".0", ""), name
        for choice in rule.get("enum", ()):
            assert f"`{choice}`" in allowed, name


def test_metrics_and_prediction_log_are_as_documented(
    built: BuiltBento, store: BentoStore, tmp_path: Path
) -> None:
    log = {"CHURN_API_PREDICTION_LOG": str(tmp_path)}
    with serving(str(built.archive), store.home, settings=log) as url:
        headers = {"Content-Type": "application/json"}
        response = httpx.post(f"{url}/predict", content=sent(PATH)[0].encode(), headers=headers)
        metrics = httpx.get(f"{url}/metrics").text
    assert response.status_code == 200, response.text
    assert response.json().keys() == documents("prediction_id")[0].keys()
    assert exposed(metrics) == {
        name: sorted(labels.split(",")) if labels else []
        for name, labels in (re.fullmatch(r"(\w+)(?:\{(.*)\})?", row).groups()  # type: ignore[union-attr]
                             for row in table("churn_"))
    }  # fmt: skip
    (file,) = tmp_path.glob("telecom/*.jsonl")
    assert NAME.fullmatch(file.name)
    (example,), (line,) = documents("features"), file.read_text().splitlines()
    logged = json.loads(line)
    assert list(logged) == list(example)
    assert shape(logged["features"]) == shape(example["features"])


def shape(features: dict[str, Any]) -> dict[str, Any]:
    """Logged features, with the same placeholder for all pseudonyms."""
    return {
        name: re.sub("^[0-9a-f]{32}$", "pseudonym", value) if isinstance(value, str) else value
        for name, value in features.items()
    }


def exposed(metrics: str) -> dict[str, list[str]]:
    """Label names of each of the service's metrics."""
    names = re.findall(r"^# TYPE (churn_\w+)", metrics, re.MULTILINE)
    found = {}
    for name in names:
        lines = re.findall(rf"^{name}(?:_bucket)?(?:\{{(.*)\}})? ", metrics, re.MULTILINE)
        labels = set(re.findall(r'(\w+)="', " ".join(lines))) - {"le"}
        found[name] = sorted(labels)
    return found


def test_the_queries_use_existing_metrics() -> None:
    (queries,) = blocks(PATH, "promql")
    known = {re.sub(r"\{.*", "", row) for row in table("churn_")}
    used = {re.sub("_bucket$", "", found) for found in re.findall(r"churn_\w+", queries)}
    assert used
    assert used <= known
