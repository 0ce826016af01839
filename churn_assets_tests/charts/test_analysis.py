"""The analysis finds the new version that is worse, and judges nothing without evidence.

`promtool test rules` evaluates the queries on series as two versions would write them.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from churn_assets_tests.charts.rendering import Manifest, at, example, merged, render

pytestmark = pytest.mark.charts

GOOD, BAD, UNKNOWN = "good", "bad", "inconclusive"
LIMITS = ("error-share", "p99-seconds", "degraded-share", "breaker-openings", "restarts",
          "down-share", "drift-score")  # fmt: skip
AGAINST_STABLE = ("more-refusals", "p99-ratio")
ALL = (*LIMITS, *AGAINST_STABLE)

NO_SCORE = "NaN " * 41
Series = Mapping[str, str]


def version(name: str, **changed: str | None) -> dict[str, str]:
    """Returns series of one pod: ten requests a second, of 2 ms, unless something is changed."""
    labels = f'namespace="crm",rollouts_pod_template_hash="{name}",pod="{name}-1"'
    series: dict[str, str | None] = {
        "up": "1x40",
        "count": "0+150x40",
        "fast": "0+150x40",
        "slow": "0+150x40",
        "all": "0+150x40",
        "scored": "0+150x40",
        "degraded": "0x40",
        "opened": "0x40",
        "drift": "0.05x40",
    }
    series |= changed
    names = {
        "up": f"up{{{labels}}}",
        "count": f"churn_prediction_latency_seconds_count{{{labels}}}",
        "fast": f'churn_prediction_latency_seconds_bucket{{{labels},le="0.005"}}',
        "slow": f'churn_prediction_latency_seconds_bucket{{{labels},le="2"}}',
        "all": f'churn_prediction_latency_seconds_bucket{{{labels},le="+Inf"}}',
        "scored": f"churn_predictions_total{{{labels}}}",
        "degraded": f"churn_degraded_predictions_total{{{labels}}}",
        "opened": f"churn_breaker_opened_total{{{labels}}}",
        "drift": f"churn_model_drift_score{{{labels}}}",
        "internal": f'churn_prediction_errors_total{{{labels},error_type="internal"}}',
        "validation": f'churn_prediction_errors_total{{{labels},error_type="validation"}}',
    }
    return {names[key]: values for key, values in series.items() if values is not None}


RESCORING = "answers-are-of-the-model"

FEW = dict.fromkeys(("count", "fast", "slow", "all", "scored"), "0+1x40")
SCENARIOS: dict[str, tuple[Series, dict[str, str]]] = {
    "as good": (version("new"), {}),
    "5% errors": (
        version("new", internal="0+8x40"),
        {"error-share": BAD},
    ),
    "only errors": (
        version(
            "new",
            **dict.fromkeys(("count", "fast", "slow", "all", "scored"), "0x40"),
            internal="0+150x40",
        ),
        {
            "error-share": BAD,
            **dict.fromkeys(("p99-seconds", "degraded-share", "drift-score", "p99-ratio"), UNKNOWN),
            "drift-score": GOOD,
        },
    ),
    "1 s slower": (
        version("new", fast="0x40"),
        {"p99-seconds": BAD, "p99-ratio": BAD},
    ),
    "slower for one in a hundred": (
        version("new", fast="0+147x40"),
        {"p99-seconds": BAD, "p99-ratio": BAD},
    ),
    "degraded": (
        version("new", degraded="0+150x40", opened="0 1x40"),
        {"degraded-share": BAD, "breaker-openings": BAD},
    ),
    "restarted": (
        version("new", count="0+150x15 10+150x20"),
        {"restarts": BAD},
    ),
    "crash loop": (
        version("new", up="0 0 0 1 0 0 0 0 1 0 0 0 0 0 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"),
        {"down-share": BAD},
    ),
    "drifted": (version("new", drift="0.4x40"), {"drift-score": BAD}),
    "refuses what stable accepts": (
        version("new", validation="0+10x40"),
        {"more-refusals": BAD},
    ),
    "customers too few for drift": (version("new", drift=NO_SCORE), {"drift-score": UNKNOWN}),
    "requests too few": (
        version("new", **FEW),
        dict.fromkeys(set(ALL) - {"restarts", "down-share", "drift-score"}, UNKNOWN),
    ),
    "no request": (
        version("new", **dict.fromkeys(FEW, "0x40"), drift=NO_SCORE),
        dict.fromkeys(set(ALL) - {"restarts", "down-share"}, UNKNOWN),
    ),
    "just started": (
        {'up{namespace="crm",rollouts_pod_template_hash="new",pod="new-1"}': "_x18 0 0"},
        dict.fromkeys(ALL, UNKNOWN),
    ),
    "not scraped": ({}, dict.fromkeys(ALL, UNKNOWN)),
    "another namespace": (
        {name.replace("crm", "other"): values for name, values in version("new").items()},
        dict.fromkeys(ALL, UNKNOWN),
    ),
}


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not on the PATH: it comes with Prometheus")
    return found


def metrics(manifests: list[Manifest]) -> dict[str, dict[str, Any]]:
    """Returns the metrics of all templates by their names."""
    templates = [m for m in manifests if m["kind"] == "AnalysisTemplate"]
    return {metric["name"]: metric for t in templates for metric in t["spec"]["metrics"]}


@pytest.fixture(scope="module")
def judged(helm: Path) -> dict[str, dict[str, Any]]:
    return metrics(render(helm, example("canary")))


def query(metric: Mapping[str, Any]) -> str:
    text = str(metric["provider"]["prometheus"]["query"])
    return text.replace("{{args.canary}}", "new").replace("{{args.stable}}", "old")


def limit(metric: Mapping[str, Any]) -> str:
    """Returns the limit of a metric, whose conditions are those of every metric."""
    success, failure = metric["successCondition"], metric["failureCondition"]
    found = str(success.removeprefix("len(result) > 0 && result[0] <= "))
    assert failure == f"len(result) > 0 && result[0] > {found}"
    return found


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_version_is_judged_by_what_it_does(
    promtool: str, judged: dict[str, dict[str, Any]], name: str, tmp_path: Path
) -> None:
    series, other = SCENARIOS[name]
    verdicts = dict.fromkeys(ALL, GOOD) | other
    samples = [
        {
            "expr": f"count(({query(judged[metric])}) {sign} {limit(judged[metric])}) or vector(0)",
            "eval_time": "5m",
            "exp_samples": [{"labels": "{}", "value": int(verdict == wanted)}],
        }
        for metric, verdict in verdicts.items()
        for sign, wanted in (("<=", GOOD), (">", BAD))
    ]
    inputs = [{"series": key, "values": text} for key, text in {**version("old"), **series}.items()]
    tests = [{"interval": "15s", "input_series": inputs, "promql_expr_test": samples}]
    file = tmp_path / "test.yaml"
    file.write_text(json.dumps({"tests": tests}), encoding="utf-8")
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_step_ends_only_after_good_measurements_in_a_row(
    judged: dict[str, dict[str, Any]],
) -> None:
    for name in ALL:
        assert judged[name]["consecutiveSuccessLimit"] == "{{args.successes}}"
        assert judged[name]["failureLimit"] == 2
        assert judged[name]["consecutiveErrorLimit"] == 30


def test_nothing_waits_for_longer_than_the_deadline(judged: dict[str, dict[str, Any]]) -> None:
    deadline = judged["deadline"]
    assert deadline["initialDelay"] == "7200s"
    assert deadline["failureCondition"] == "true"
    assert deadline["count"] == 1
    for name in ALL:
        seconds = int(judged[name]["interval"].removesuffix("s"))
        for limit in ("inconclusiveLimit", "count"):
            assert judged[name][limit] * seconds > 7200, "the end would be good, or a pause"


def test_a_limit_of_null_is_not_judged(helm: Path) -> None:
    limits = {"driftScore": None, "p99Ratio": None}
    found = metrics(render(helm, merged(example("canary"), at("analysis.limits", limits))))
    assert found.keys() == {*ALL, "deadline", "pods-up", RESCORING} - {"drift-score", "p99-ratio"}


def test_all_requests_are_compared_with_nothing(helm: Path) -> None:
    manifests = render(helm, merged(example("canary"), at("analysis.extraTemplates", ["other"])))
    (rollout,) = (m["spec"] for m in manifests if m["kind"] == "Rollout")
    canary = rollout["strategy"]["canary"]
    names = [
        [
            t["templateName"].removeprefix("churn-churn-service-")
            for t in step["analysis"]["templates"]
        ]
        for step in canary["steps"]
        if "analysis" in step
    ]
    always = ["rescoring", "other"]
    assert names == [["limits", "against-stable", *always]] * 3 + [["limits", *always]]
    background = [t["templateName"] for t in canary["analysis"]["templates"]]
    assert background == ["churn-churn-service-limits", "churn-churn-service-deadline"]


def test_blue_green_is_judged_after_the_switch(helm: Path) -> None:
    manifests = render(helm, example("blueGreen"))
    (rollout,) = (m["spec"] for m in manifests if m["kind"] == "Rollout")
    templates = rollout["strategy"]["blueGreen"]["postPromotionAnalysis"]["templates"]
    names = ["churn-churn-service-limits", "churn-churn-service-rescoring"]
    assert templates == [{"templateName": name} for name in names]
    assert metrics(manifests).keys() == {*LIMITS, RESCORING}
    assert rollout["progressDeadlineSeconds"] == 7200 + 600


def test_only_a_difference_ends_the_rescoring_at_once(
    judged: dict[str, dict[str, Any]],
) -> None:
    metric = judged[RESCORING]
    job = metric["provider"]["job"]["spec"]
    assert (metric["failureLimit"], job["backoffLimit"]) == (0, 2)
    (difference, _) = job["podFailurePolicy"]["rules"]
    assert difference["action"] == "FailJob"
    assert difference["onExitCodes"] == {
        "containerName": "rescore",
        "operator": "In",
        "values": [3],
    }
    assert job["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("name", ["canary", "blueGreen"])
def test_predictions_are_scored_again_by_the_bento_of_the_new_pods(helm: Path, name: str) -> None:
    manifests = render(helm, merged(example("archive"), example(name)))
    job = metrics(manifests)[RESCORING]["provider"]["job"]
    pod = job["spec"]["template"]["spec"]
    (serving,) = (m["spec"]["template"]["spec"] for m in manifests if m["kind"] == "Rollout")
    fetch, sample = pod["initContainers"]
    assert fetch in serving["initContainers"]
    assert {v["name"]: v["value"] for v in sample["env"]} == {
        "CHURN_SAMPLE_URL": "s3://logs/predictions",
        "CHURN_SAMPLE_RELEASE": "churn",
        "CHURN_SAMPLE_TEMPLATE_HASH": "{{args.canary}}",
        "CHURN_SAMPLE_TARGET": "/sample/lines.jsonl",
        "CHURN_SAMPLE_LINES": "1000",
        "CHURN_SAMPLE_TIMEOUT": "900",
    }
    (rescore,) = pod["containers"]
    assert rescore["image"] == serving["containers"][0]["image"]
    assert rescore["args"][-2:] == ["--fewest", "500"]
    service = {m["metadata"]["name"]: m for m in manifests if m["kind"] == "Service"}
    selector = service["churn-churn-service"]["spec"]["selector"]
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert not selector.items() <= labels.items(), "no Service may select the Job's pod"
