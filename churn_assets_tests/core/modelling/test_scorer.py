"""Scorers need only numpy, round-trip through files, and refuse inconsistent files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from churn_assets.core.modelling.scorer import Codes, LinearScorer, Scorer, TreeScorer

PLANS = Codes({"basic": 4, "plus": 3}, null=3, unknown=4)


def tree_scorer() -> TreeScorer:
    """Returns one tree: tenure <= 12 exits left, else null or plus in the middle, else right."""
    leaves = np.zeros((1, 8))
    leaves[0, :3] = 1.0, 0.25, -2.0
    return TreeScorer(
        ("tenure",),
        {"plan": PLANS},
        slope=-1.0,
        offset=0.0,
        masks=np.array([[255], [254], [254], [255], [253]], dtype=np.uint8),
        thresholds=np.array([12.0, np.inf]),
        leaves=leaves,
        baseline=np.array(0.5),
    )


def linear_scorer() -> LinearScorer:
    return LinearScorer(
        ("tenure",),
        {"plan": Codes({"basic": 0}, null=1, unknown=2)},
        slope=-1.0,
        offset=0.0,
        terms=np.array([[0.1, 10.0, 2.0, 0.5]]),
        weights=np.array([0.3, 0.0, -0.2]),
        limits=np.array([1e15, 10.0]),
        intercept=np.array(-1.0),
    )


SCORERS = pytest.mark.parametrize(
    "scorer", [tree_scorer(), linear_scorer()], ids=["trees", "linear"]
)
TENURES = [12.0, np.nextafter(12.0, 13), np.nan, np.inf, -np.inf, 1e300, -0.0, 20.0]
COLUMNS = {
    "tenure": np.array(TENURES),
    "plan": np.array(["basic", "plus", "basic", None, np.nan, "", "plus", "new"], dtype=object),
}


def logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


def test_import_loads_only_numpy() -> None:
    heavy = ["sklearn", "pandas", "scipy", "pandera", "pydantic"]
    module = "churn_assets.core.modelling.scorer"
    code = f"import {module}, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("tenure", "plan", "expected"),
    [
        (12.0, "basic", 1.5),
        (np.nextafter(12.0, 13), "plus", 0.75),
        (13, "basic", -1.5),
        (None, "basic", -1.5),
        (float("nan"), None, 0.75),
        (True, "never heard of", 1.5),
    ],
)
def test_trees_give_the_exit_leaf(tenure: float | None, plan: str | None, expected: float) -> None:
    p = tree_scorer().score_one({"tenure": tenure, "plan": plan})
    assert logit(p) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("tenure", "plan", "expected"),
    [
        (12.0, "basic", -1 + 0.1 + 0.5 + 0.3),
        (None, None, -1),
        (1e300, "never heard of", -1 + 0.1 + 5.0 - 0.2),
    ],
)
def test_linear_scorer_adds_up_its_terms(
    tenure: float | None, plan: str | None, expected: float
) -> None:
    p = linear_scorer().score_one({"tenure": tenure, "plan": plan})
    assert logit(p) == pytest.approx(expected, abs=1e-12)


@SCORERS
def test_a_single_score_equals_the_batch_bit_for_bit(scorer: Scorer) -> None:
    batch = scorer.score(COLUMNS)
    alone = [
        scorer.score_one({"tenure": t, "plan": p})
        for t, p in zip(TENURES, COLUMNS["plan"], strict=True)
    ]
    assert batch.tolist() == alone
    assert scorer.inputs == ("tenure", "plan")


@SCORERS
def test_an_empty_batch_gives_no_probabilities(scorer: Scorer) -> None:
    empty = {"tenure": np.empty(0), "plan": np.empty(0, dtype=object)}
    assert scorer.score(empty).shape == (0,)


@SCORERS
def test_an_extreme_logit_gives_a_probability(scorer: Scorer) -> None:
    scorer = type(scorer)(scorer.numbers, scorer.codes, 1e6, 0.0, **scorer._arrays())
    for tenure in (12.0, 1e9):
        p = scorer.score_one({"tenure": tenure, "plan": "basic"})
        assert 0.0 <= p <= 1.0


@SCORERS
def test_a_missing_input_and_a_short_one_are_named(scorer: Scorer) -> None:
    with pytest.raises(KeyError, match="plan"):
        scorer.score_one({"tenure": 1.0})
    with pytest.raises(KeyError, match="tenure"):
        scorer.score({"plan": COLUMNS["plan"]})
    with pytest.raises(ValueError, match="plan"):
        scorer.score(COLUMNS | {"plan": COLUMNS["plan"][:2]})


@SCORERS
def test_a_scorer_round_trips_through_files(scorer: Scorer, tmp_path: Path) -> None:
    scorer.save(tmp_path / "a")
    loaded = Scorer.load(tmp_path / "a")
    loaded.save(tmp_path / "b")
    assert loaded.score(COLUMNS).tolist() == scorer.score(COLUMNS).tolist()
    for file in ("scorer.npz", "scorer.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("file", ["scorer.json", "scorer.npz"])
def test_a_missing_or_broken_file_is_named(file: str, tmp_path: Path) -> None:
    tree_scorer().save(tmp_path)
    whole = (tmp_path / file).read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"not it"):
        (tmp_path / file).write_bytes(broken)
        with pytest.raises(ValueError, match=file):
            Scorer.load(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(ValueError, match=file):
        Scorer.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"format": 2}, "format 2 is unknown"),
        ({"kind": "forest"}, "kind 'forest' is unknown"),
        ({"kind": "linear"}, "not a consistent scorer"),
        ({"numbers": ["tenure", "age"]}, "2 numbers"),
        ({"codes": {"plan": {"known": {"x": 99}, "null": 3, "unknown": 3}}}, "outside the table"),
        ({"codes": {"plan": {"known": {}}}}, "null"),
        ({"codes": {"plan": {"known": {"x": "3"}, "null": 3, "unknown": 3}}}, "consistent"),
        ({"codes": []}, "not a consistent scorer"),
        ({"slope": None}, "not a consistent scorer"),
    ],
)
def test_an_inconsistent_description_is_refused(
    change: dict[str, object], fault: str, tmp_path: Path
) -> None:
    tree_scorer().save(tmp_path)
    about = json.loads((tmp_path / "scorer.json").read_text())
    (tmp_path / "scorer.json").write_text(json.dumps(about | change))
    with pytest.raises(ValueError, match=fault):
        Scorer.load(tmp_path)


def test_a_description_that_is_no_object_is_refused(tmp_path: Path) -> None:
    tree_scorer().save(tmp_path)
    (tmp_path / "scorer.json").write_text("[1]")
    with pytest.raises(ValueError, match="unknown"):
        Scorer.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"thresholds": np.array([np.inf])}, None),
        ({"thresholds": np.array([5.0])}, "0 lists of thresholds"),
        ({"thresholds": np.array([5.0, 5.0, np.inf])}, "do not increase"),
        ({"masks": np.zeros((5, 1))}, "unsigned"),
        ({"masks": np.zeros((5, 2), dtype=np.uint8)}, "leaves do not fit"),
        ({"masks": np.zeros((2, 1), dtype=np.uint8)}, "outside|fewer"),
        ({"leaves": np.zeros((1, 16))}, "leaves do not fit"),
        ({"more": np.zeros(1)}, "more"),
    ],
)
def test_inconsistent_arrays_are_refused(
    change: dict[str, np.ndarray], fault: str | None, tmp_path: Path
) -> None:
    tree_scorer().save(tmp_path)
    np.savez(tmp_path / "scorer.npz", **(tree_scorer()._arrays() | change))
    if fault is None:
        assert Scorer.load(tmp_path).inputs == ("tenure", "plan")
        return
    with pytest.raises(ValueError, match=fault):
        Scorer.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "fault"),
    [({"terms": np.zeros((2, 4))}, "terms"), ({"weights": np.zeros(1)}, "outside the weights")],
)
def test_inconsistent_weights_are_refused(
    change: dict[str, np.ndarray], fault: str, tmp_path: Path
) -> None:
    linear_scorer().save(tmp_path)
    np.savez(tmp_path / "scorer.npz", **(linear_scorer()._arrays() | change))
    with pytest.raises(ValueError, match=fault):
        Scorer.load(tmp_path)


def test_an_object_array_is_never_unpickled(tmp_path: Path) -> None:
    tree_scorer().save(tmp_path)
    np.savez(tmp_path / "scorer.npz", masks=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"scorer\.npz"):
        Scorer.load(tmp_path)
