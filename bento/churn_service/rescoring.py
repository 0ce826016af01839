"""Command that scores logged predictions again, with the scorers of a bento.

A canary must answer as its own model: a Job of the rollout's analysis runs this command on lines of
the canary's prediction log. Personal features are pseudonyms there; their values are found again
by trying all that there can be.
"""

import json
import math
import runpy
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
from pydantic import BaseModel, ConfigDict, ValidationError

from churn_assets.contracts.card import ModelCard
from churn_assets.contracts.contract import Column, Contract
from churn_assets.contracts.pseudonym import pseudonym
from churn_assets.contracts.request import RequestFeatures, request_model
from churn_assets.core.modelling.scorer import Scorer
from churn_service.settings import read_id_key

TOLERANCE = 1e-12
"""Largest difference between a logged and a computed probability that counts as none."""

MOST_VALUES = 10_000
"""Most values of a personal feature that are tried."""

MOST_SAMPLES = 5

DIFFERS, NOTHING_TO_JUDGE = 3, 2
"""Exit codes. 1 is that of an error of Python, which another attempt may not have."""


class NotComparableError(Exception):
    """A line cannot be scored again; the message is the reason."""


class BentoError(click.ClickException):
    """The bento has not what it takes to score."""

    exit_code = NOTHING_TO_JUDGE


class LoggedPrediction(BaseModel):
    """What is needed of a line of the prediction log."""

    model_config = ConfigDict(strict=True, protected_namespaces=())

    prediction_id: str
    model_version: str
    degraded: bool
    churn_probability: float
    features: dict[str, Any]


@dataclass
class Comparison:
    """Logged predictions, compared with those of the bento.

    Attributes:
        judged: Number of lines that were compared, and of those of another model.
        not_judged: Number of lines that were not, by reason.
        differing: Number of judged lines with another probability, or of another model.
        largest_difference: Largest absolute difference of two probabilities.
        samples: Some differing lines, without their features.
    """

    judged: int = 0
    not_judged: Counter[str] = field(default_factory=Counter)
    differing: int = 0
    largest_difference: float = 0.0
    samples: list[dict[str, object]] = field(default_factory=list)

    def add(self, line: LoggedPrediction, computed: float | None) -> None:
        """Compares a line with the bento's probability; None says that another model answered."""
        self.judged += 1
        if computed is not None:
            difference = abs(line.churn_probability - computed)
            self.largest_difference = max(self.largest_difference, difference)
            # NaN is within no tolerance.
            if difference <= TOLERANCE:
                return
        self.differing += 1
        if len(self.samples) < MOST_SAMPLES:
            self.samples.append(
                {
                    "prediction_id": line.prediction_id,
                    "model_version": line.model_version,
                    "logged": line.churn_probability,
                    "computed": computed,
                }
            )


class Rescorer:
    """The scorers of a bento, for lines of the prediction log.

    Args:
        bento: Folder of the bento.
        id_key: Key of the log's pseudonyms.

    Raises:
        BentoError: The folder is not that of a bento with one model.
    """

    def __init__(self, bento: Path, id_key: bytes) -> None:
        models = [card.parent for card in bento.glob("models/*/*/card.json")]
        if len(models) != 1:
            raise BentoError(f"{bento} is not a bento with one model: {len(models)} were found")
        source = bento / "src"
        derived = SimpleNamespace(**runpy.run_path(str(source / "derived.py")))
        text = (source / "contract.json").read_bytes()
        contract = Contract.model_validate_json(text).with_functions(derived)
        self.version = ModelCard.model_validate_json((models[0] / "card.json").read_bytes()).version
        self._contract, self._features = contract, RequestFeatures(contract)
        self._customer = request_model(contract)
        scorers = Scorer.load(models[0]), Scorer.load(models[0] / "fallback")
        self._scorers = [(scorer, self._columns_of(scorer)) for scorer in scorers]
        self._values = {
            column.name: {
                pseudonym(id_key, column.name, one): one for one in values(column, scorers)
            }
            for column in contract.features
            if column.personal
        }

    def compare(self, lines: Iterable[bytes]) -> Comparison:
        """Scores each line again and compares the probabilities."""
        found = Comparison()
        for line in lines:
            try:
                logged = LoggedPrediction.model_validate_json(line)
                # Another model may have other features, so that its lines cannot be scored here.
                same = logged.model_version == self.version
                computed = self.score(logged) if same else None
            except ValidationError:
                found.not_judged["the line is no prediction"] += 1
            except NotComparableError as reason:
                found.not_judged[str(reason)] += 1
            else:
                found.add(logged, computed)
        return found

    def score(self, line: LoggedPrediction) -> float:
        """Probability of the scorer that the line says it was scored by.

        Raises:
            NotComparableError: The value of a feature is unknown.
        """
        scorer, needed = self._scorers[line.degraded]
        customer = self._customer.model_construct(
            **{column.name: self._value(column, line, needed) for column in self._contract.features}
        )
        return scorer.score_one(self._features.row(customer))

    def _value(self, column: Column, line: LoggedPrediction, needed: set[str]) -> Any:
        if column.name not in line.features:
            raise NotComparableError(f"the line has no feature {column.name}")
        value = line.features[column.name]
        if value is None or not column.personal:
            return value
        found = self._values[column.name].get(str(value))
        if found is None and column.name in needed:
            raise NotComparableError(
                f"the pseudonym of {column.name} is of none of {len(self._values[column.name])} "
                "values, by this key"
            )
        return found

    def _columns_of(self, scorer: Scorer) -> set[str]:
        """Names of the columns that a scorer's inputs are made of."""
        derived = {feature.name: feature.inputs for feature in self._contract.derived}
        return {name for one in scorer.inputs for name in derived.get(one, (one,))}


def values(column: Column, scorers: Iterable[Scorer]) -> Iterable[str | bool | int]:
    """All values of a column; of open categories those that the scorers know.

    None where there are more than `MOST_VALUES`.
    """
    if column.kind == "flag":
        return (False, True)
    if column.kind == "category":
        known = {name for scorer in scorers for name in scorer.codes.get(column.name, ())}
        return column.values or known
    if column.whole and column.ge is not None and column.le is not None:
        numbers = range(math.ceil(column.ge), math.floor(column.le) + 1)
        return numbers if len(numbers) <= MOST_VALUES else ()
    return ()


@click.command()
@click.option("--bento", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--lines", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--id-key", "key_file", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--fewest", type=click.IntRange(1), required=True, help="lines that must be judged")
def main(bento: Path, lines: Path, key_file: Path, fewest: int) -> None:
    """Scores logged predictions again with a bento; 3 if one differs, 2 if too few are judged."""
    try:
        id_key = read_id_key(key_file)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--id-key") from error
    with lines.open("rb") as file:
        found = Rescorer(bento, id_key).compare(file)
    click.echo(json.dumps(vars(found)))
    if found.differing:
        sys.exit(DIFFERS)
    if found.judged < fewest:
        sys.exit(NOTHING_TO_JUDGE)


if __name__ == "__main__":
    main()
