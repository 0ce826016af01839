"""The fallback replaces a failing main scorer until it works again; scorers broken on disk."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from churn_service.inference.served_model import ServedModel, Unavailable

from churn_assets_tests.bento.expected_responses import CUSTOMER, MODEL
from churn_assets_tests.bento.in_process import model_folder, nan_scorer
from churn_assets_tests.bentos import CONTRACT, FALLBACK, SCORER, customers
from churn_assets_tests.core.modelling.linear_scorers import linear_scorer

FAILURES, SECONDS = 3, 0.3


@dataclass
class Served:
    """A served model, and the times at which its breaker opened."""

    folder: Path
    opened: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model = ServedModel(
            self.folder,
            CONTRACT,
            failures=FAILURES,
            seconds=SECONDS,
            opened=lambda: self.opened.append(time.monotonic()),
        )

    def row(self, city: str) -> dict[str, Any]:
        return self.model.features.row(MODEL.model_validate(CUSTOMER | {"location": city}))

    def score(self, city: str = "Berlin") -> bool:
        """Scores a customer and compares the probability; returns whether the fallback scored."""
        row = self.row(city)
        probability, degraded = self.model.score_one(row)
        assert probability == (FALLBACK if degraded else SCORER).score_one(row)
        return degraded

    def wait(self) -> None:
        """Waits until the breaker lets a call through."""
        time.sleep(SECONDS + 0.05)


@pytest.fixture
def fails_in_paris(tmp_path: Path) -> Served:
    """A main scorer that fails only for Paris, which is in no golden row."""
    return Served(model_folder(tmp_path, nan_scorer("Paris", 1), rows=1))


def test_a_valid_main_scorer_is_used(tmp_path: Path) -> None:
    served = Served(model_folder(tmp_path))
    assert served.model.ready()
    assert not served.model.degraded
    assert not served.score()


def test_batch_and_single_probabilities_are_equal(tmp_path: Path) -> None:
    model = Served(model_folder(tmp_path)).model
    instances = [MODEL.model_validate(one) for one in customers(500)]
    together, degraded = model.score(model.features.columns(instances))
    assert not degraded
    assert together.tolist() == [model.score_one(model.features.row(one))[0] for one in instances]


def test_no_scorer_is_usable_before_it_is_loaded(tmp_path: Path) -> None:
    model = Served(model_folder(tmp_path)).model
    assert (model.degraded, model.usable) == (True, False)


def truncate(folder: Path) -> None:
    path = folder / "scorer.npz"
    path.write_bytes(path.read_bytes()[:-20])


def rename_input(folder: Path) -> None:
    path = folder / "scorer.json"
    path.write_text(path.read_text().replace('"tenure"', '"nonsense"'))


BREAKS: list[Callable[[Path], object]] = [
    lambda folder: (folder / "scorer.npz").unlink(),
    lambda folder: (folder / "scorer.json").write_text("{"),
    lambda folder: linear_scorer(CONTRACT, 9).save(folder),  # another model
    truncate,
    rename_input,
]


@pytest.mark.parametrize("breaks", BREAKS)
def test_the_fallback_replaces_a_broken_main_scorer(
    tmp_path: Path, breaks: Callable[[Path], object]
) -> None:
    served = Served(model_folder(tmp_path))
    breaks(tmp_path)
    assert served.model.ready()
    assert (served.model.degraded, served.model.usable) == (True, True)
    assert served.score()


@pytest.mark.parametrize("breaks", BREAKS)
def test_a_broken_fallback_does_not_affect_the_main_scorer(
    tmp_path: Path, breaks: Callable[[Path], object]
) -> None:
    served = Served(model_folder(tmp_path))
    breaks(tmp_path / "fallback")
    assert served.model.ready()
    assert not served.model.degraded
    assert not served.score()


@pytest.mark.parametrize("breaks", BREAKS)
def test_with_both_scorers_broken_nothing_is_scored(
    tmp_path: Path, breaks: Callable[[Path], object]
) -> None:
    served = Served(model_folder(tmp_path))
    breaks(tmp_path)
    breaks(tmp_path / "fallback")
    for _ in range(FAILURES + 2):  # the same before and after the breakers open
        assert not served.model.ready()
        assert not served.model.usable
        with pytest.raises(Unavailable, match="no scorer can answer"):
            served.score()


def test_golden_rows_are_compared_to_the_last_bit(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    golden = json.loads((folder / "golden.json").read_text())
    golden["main"][-1] = float(np.nextafter(golden["main"][-1], 1))
    (folder / "golden.json").write_text(json.dumps(golden))
    served = Served(folder)
    assert served.model.ready()
    assert served.score()


def test_a_repaired_main_scorer_is_used_again(tmp_path: Path) -> None:
    served = Served(model_folder(tmp_path))
    saved = (tmp_path / "scorer.npz").read_bytes()
    (tmp_path / "scorer.npz").unlink()
    while not served.opened:
        assert served.score()
    (tmp_path / "scorer.npz").write_bytes(saved)
    assert served.score(), "the open breaker must keep calls from the main scorer"
    served.wait()
    assert not served.score()
    assert not served.model.degraded


def test_the_fallback_replaces_an_invalid_probability(fails_in_paris: Served) -> None:
    assert fails_in_paris.model.ready()
    assert fails_in_paris.score("Paris")
    assert not fails_in_paris.score("Berlin")
    assert not fails_in_paris.opened


def test_one_invalid_probability_leaves_the_whole_batch_to_the_fallback(
    fails_in_paris: Served,
) -> None:
    instances = [MODEL.model_validate(CUSTOMER | {"location": x}) for x in ("Berlin", "Paris")]
    columns = fails_in_paris.model.features.columns(instances)
    probabilities, degraded = fails_in_paris.model.score(columns)
    assert degraded
    assert probabilities.tolist() == FALLBACK.score(columns).tolist()


@pytest.mark.parametrize("failures", [FAILURES - 1, FAILURES, FAILURES + 1])
def test_the_breaker_opens_after_failures_in_a_row(fails_in_paris: Served, failures: int) -> None:
    assert fails_in_paris.model.ready()
    for _ in range(failures):
        assert fails_in_paris.score("Paris")
    is_open = failures >= FAILURES
    assert (len(fails_in_paris.opened), fails_in_paris.model.degraded) == (int(is_open), is_open)
    assert fails_in_paris.score("Berlin") == is_open


def test_a_success_resets_the_count_of_failures(fails_in_paris: Served) -> None:
    for _ in range(3):
        for _ in range(FAILURES - 1):
            fails_in_paris.score("Paris")
        assert not fails_in_paris.score("Berlin")
    assert not fails_in_paris.opened


def test_an_open_breaker_closes_after_a_successful_trial(fails_in_paris: Served) -> None:
    for _ in range(FAILURES):
        fails_in_paris.score("Paris")
    assert fails_in_paris.score("Berlin")
    fails_in_paris.wait()
    assert not fails_in_paris.score("Berlin")
    assert (len(fails_in_paris.opened), fails_in_paris.model.degraded) == (1, False)


def test_an_open_breaker_opens_again_after_a_failed_trial(fails_in_paris: Served) -> None:
    for _ in range(FAILURES):
        fails_in_paris.score("Paris")
    fails_in_paris.wait()
    assert fails_in_paris.score("Paris"), "one failure opens the breaker again"
    assert fails_in_paris.score("Berlin")
    assert len(fails_in_paris.opened) == 2


def test_a_readiness_probe_tries_the_main_scorer_again_without_requests(
    fails_in_paris: Served,
) -> None:
    for _ in range(FAILURES):
        fails_in_paris.score("Paris")
    assert fails_in_paris.model.ready(), "the fallback works"
    assert fails_in_paris.model.degraded
    fails_in_paris.wait()
    assert fails_in_paris.model.ready()
    assert not fails_in_paris.model.degraded


def test_where_both_scorers_fail_for_one_customer_others_are_scored(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, nan_scorer("Paris", 1), nan_scorer("Paris", 3), rows=1)
    served = Served(folder)
    with pytest.raises(Unavailable):
        served.score("Paris")
    assert not served.score("Berlin")


def test_the_breaker_of_the_fallback_is_not_counted(tmp_path: Path) -> None:
    served = Served(model_folder(tmp_path))
    (tmp_path / "fallback" / "scorer.npz").unlink()
    for _ in range(FAILURES + 1):
        served.model.ready()
    assert not served.opened


def test_unknown_columns_have_open_categories_that_training_never_saw(tmp_path: Path) -> None:
    served = Served(model_folder(tmp_path))
    assert served.model.unknown(served.row("Atlantis")) == [], "no scorer is loaded yet"
    assert served.model.ready()
    assert served.model.unknown(served.row("Atlantis")) == ["location"]
    assert served.model.unknown(served.row("Paris")) == []
    cities = ["Paris", "Atlantis", "Berlin", "Atlantis"]
    instances = [MODEL.model_validate(CUSTOMER | {"location": city}) for city in cities]
    columns = served.model.features.columns(instances)
    assert served.model.unknown_among(columns) == {"location": 2}
