"""A scorer that fails is left for the fallback, and tried again; real scorers, broken on disk."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from churn_service.inference.served_model import ServedModel, Unavailable

from churn_assets_tests.bento.expected import CUSTOMER, MODEL
from churn_assets_tests.bento.inside import model_folder, nan_in
from churn_assets_tests.bentos import CONTRACT, FALLBACK, SCORER, customers, linear_scorer

FAILURES, SECONDS = 3, 0.3


@dataclass
class Served:
    """A model that is served, and how often its breaker opened."""

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

    def ask(self, city: str = "Berlin") -> bool:
        """Whether the fallback answered; whoever did gave its own probability, to the bit."""
        row = self.row(city)
        probability, degraded = self.model.score_one(row)
        assert probability == (FALLBACK if degraded else SCORER).score_one(row)
        return degraded

    def wait(self) -> None:
        """Until the breaker lets a call through."""
        time.sleep(SECONDS + 0.05)


@pytest.fixture
def half(tmp_path: Path) -> Served:
    """Its main scorer works but in Paris, which no golden row shows."""
    return Served(model_folder(tmp_path, nan_in("Paris", 1), rows=1))


def test_a_sound_model_answers_itself(tmp_path: Path) -> None:
    served = Served(model_folder(tmp_path))
    assert served.model.ready()
    assert not served.model.degraded
    assert not served.ask()


def test_all_customers_have_the_probabilities_of_each(tmp_path: Path) -> None:
    model = Served(model_folder(tmp_path)).model
    instances = [MODEL.model_validate(one) for one in customers(500)]
    together, degraded = model.score(model.features.columns(instances))
    assert not degraded
    assert together.tolist() == [model.score_one(model.features.row(one))[0] for one in instances]


def test_before_the_first_use_nothing_is_ready(tmp_path: Path) -> None:
    model = Served(model_folder(tmp_path)).model
    assert (model.degraded, model.usable) == (True, False)


def cut(folder: Path) -> None:
    path = folder / "scorer.npz"
    path.write_bytes(path.read_bytes()[:-20])


def other_input(folder: Path) -> None:
    path = folder / "scorer.json"
    path.write_text(path.read_text().replace('"tenure"', '"nonsense"'))


BREAKS: list[Callable[[Path], object]] = [
    lambda folder: (folder / "scorer.npz").unlink(),
    lambda folder: (folder / "scorer.json").write_text("{"),
    lambda folder: linear_scorer(CONTRACT, 9).save(folder),  # of another model
    cut,
    other_input,
]


@pytest.mark.parametrize("breaks", BREAKS)
def test_a_broken_main_scorer_leaves_the_fallback(
    tmp_path: Path, breaks: Callable[[Path], object]
) -> None:
    served = Served(model_folder(tmp_path))
    breaks(tmp_path)
    assert served.model.ready()
    assert (served.model.degraded, served.model.usable) == (True, True)
    assert served.ask()


@pytest.mark.parametrize("breaks", BREAKS)
def test_a_broken_fallback_is_not_missed(tmp_path: Path, breaks: Callable[[Path], object]) -> None:
    served = Served(model_folder(tmp_path))
    breaks(tmp_path / "fallback")
    assert served.model.ready()
    assert not served.model.degraded
    assert not served.ask()


@pytest.mark.parametrize("breaks", BREAKS)
def test_with_both_broken_nobody_is_answered(
    tmp_path: Path, breaks: Callable[[Path], object]
) -> None:
    served = Served(model_folder(tmp_path))
    breaks(tmp_path)
    breaks(tmp_path / "fallback")
    for _ in range(FAILURES + 2):  # the same before and after the breakers open
        assert not served.model.ready()
        assert not served.model.usable
        with pytest.raises(Unavailable, match="no scorer can answer"):
            served.ask()


def test_a_golden_row_counts_to_the_last_bit(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    golden = json.loads((folder / "golden.json").read_text())
    golden["main"][-1] = float(np.nextafter(golden["main"][-1], 1))
    (folder / "golden.json").write_text(json.dumps(golden))
    served = Served(folder)
    assert served.model.ready()
    assert served.ask()


def test_a_repaired_scorer_is_taken_back(tmp_path: Path) -> None:
    served = Served(model_folder(tmp_path))
    saved = (tmp_path / "scorer.npz").read_bytes()
    (tmp_path / "scorer.npz").unlink()
    while not served.opened:
        assert served.ask()
    (tmp_path / "scorer.npz").write_bytes(saved)
    assert served.ask(), "the breaker keeps it from being tried at once"
    served.wait()
    assert not served.ask()
    assert not served.model.degraded


def test_what_is_no_probability_comes_from_the_fallback(half: Served) -> None:
    assert half.model.ready()
    assert half.ask("Paris")
    assert not half.ask("Berlin")
    assert not half.opened


def test_one_bad_probability_leaves_all_of_them_to_the_fallback(half: Served) -> None:
    instances = [MODEL.model_validate(CUSTOMER | {"location": x}) for x in ("Berlin", "Paris")]
    columns = half.model.features.columns(instances)
    probabilities, degraded = half.model.score(columns)
    assert degraded
    assert probabilities.tolist() == FALLBACK.score(columns).tolist()


@pytest.mark.parametrize("failures", [FAILURES - 1, FAILURES, FAILURES + 1])
def test_the_breaker_opens_after_failures_in_a_row(half: Served, failures: int) -> None:
    assert half.model.ready()
    for _ in range(failures):
        assert half.ask("Paris")
    is_open = failures >= FAILURES
    assert (len(half.opened), half.model.degraded) == (int(is_open), is_open)
    assert half.ask("Berlin") == is_open


def test_a_success_in_between_starts_the_count_anew(half: Served) -> None:
    for _ in range(3):
        for _ in range(FAILURES - 1):
            half.ask("Paris")
        assert not half.ask("Berlin")
    assert not half.opened


def test_an_open_breaker_tries_again_and_closes(half: Served) -> None:
    for _ in range(FAILURES):
        half.ask("Paris")
    assert half.ask("Berlin")
    half.wait()
    assert not half.ask("Berlin")
    assert (len(half.opened), half.model.degraded) == (1, False)


def test_an_open_breaker_tries_again_and_opens_again(half: Served) -> None:
    for _ in range(FAILURES):
        half.ask("Paris")
    half.wait()
    assert half.ask("Paris"), "one failure is enough now"
    assert half.ask("Berlin")
    assert len(half.opened) == 2


def test_a_readiness_probe_tries_again_where_nobody_asks(half: Served) -> None:
    for _ in range(FAILURES):
        half.ask("Paris")
    assert half.model.ready(), "by the fallback"
    assert half.model.degraded
    half.wait()
    assert half.model.ready()
    assert not half.model.degraded


def test_where_both_fail_for_a_customer_the_others_are_answered(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, nan_in("Paris", 1), nan_in("Paris", 3), rows=1)
    served = Served(folder)
    with pytest.raises(Unavailable):
        served.ask("Paris")
    assert not served.ask("Berlin")


def test_the_breaker_of_the_fallback_is_not_counted(tmp_path: Path) -> None:
    served = Served(model_folder(tmp_path))
    (tmp_path / "fallback" / "scorer.npz").unlink()
    for _ in range(FAILURES + 1):
        served.model.ready()
    assert not served.opened


def test_unknown_are_open_categories_that_training_never_saw(tmp_path: Path) -> None:
    served = Served(model_folder(tmp_path))
    assert served.model.unknown(served.row("Atlantis")) == [], "nothing is loaded yet"
    assert served.model.ready()
    assert served.model.unknown(served.row("Atlantis")) == ["location"]
    assert served.model.unknown(served.row("Paris")) == []
    cities = ["Paris", "Atlantis", "Berlin", "Atlantis"]
    instances = [MODEL.model_validate(CUSTOMER | {"location": city}) for city in cities]
    columns = served.model.features.columns(instances)
    assert served.model.unknown_among(columns) == {"location": 2}
