"""The model behind the door: the main scorer, the fallback, and when which of them answers."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pybreaker import CircuitBreaker, CircuitBreakerError, CircuitBreakerListener

from churn_assets.contracts.card import GoldenRows, ModelCard
from churn_assets.contracts.contract import Contract
from churn_assets.contracts.request import RequestFeatures, Value, request_model
from churn_assets.core.modelling.scorer import Scorer

LOG = logging.getLogger("churn.service")

Row = Mapping[str, Value]
Columns = Mapping[str, NDArray[Any]]
Given = TypeVar("Given")
Scored = TypeVar("Scored")


class ScoreError(ValueError):
    """A scorer gave something that is not a probability, or not the one that it should give."""


class Unavailable(RuntimeError):  # noqa: N818  # what the service is then
    """Neither scorer can answer."""


class GuardedScorer:
    """A scorer behind a circuit breaker (Nygard, "Release it!", 2007).

    After some failures in a row it is left alone for a while; then one call tries it again.

    Args:
        folder: with the scorer's files; they are read on first use, and again after a failure to.
        golden: rows with the probabilities that the scorer must give, to the bit.
        breaker: opens after failures.
    """

    def __init__(
        self, folder: Path, golden: list[tuple[Row, float]], breaker: CircuitBreaker
    ) -> None:
        self._folder, self._golden, self._breaker = folder, golden, breaker
        self._scorer: Scorer | None = None

    @property
    def works(self) -> bool:
        """It is loaded, and nothing keeps calls away from it."""
        return self._scorer is not None and self._breaker.current_state == "closed"

    def one(self, row: Row) -> float:
        """Probability of one customer; raises whatever goes wrong."""
        return self._guarded(self._one, row)

    def many(self, columns: Columns) -> NDArray[np.float64]:
        """Probabilities of many customers; raises whatever goes wrong."""
        return self._guarded(self._many, columns)

    def passes(self) -> bool:
        """Whether it gives every golden row its probability, to the bit."""
        try:
            self._breaker.call(self._check)
        except CircuitBreakerError:  # It was said when the breaker opened.
            return False
        except Exception as error:  # noqa: BLE001  # a probe asks whether, the log says why
            LOG.error("%s does not pass its golden rows: %s", self._folder, error)  # noqa: TRY400
            return False
        return True

    def knows(self, name: str, value: Value) -> bool:
        """Whether training saw this category; true while the scorer cannot be read."""
        return self._scorer is None or value is None or value in self._scorer.codes[name]

    def _guarded(self, score: Callable[[Given], Scored], given: Given) -> Scored:
        # Without a failure there is nothing to guard, and the breaker takes as long as an answer.
        if self._breaker.fail_counter == 0:
            try:
                return score(given)
            except Exception as error:
                self._breaker.call(_fail, error)  # raises the error again
                raise
        scored: Scored = self._breaker.call(score, given)
        return scored

    def _one(self, row: Row) -> float:
        probability = self._loaded().score_one(row)
        if not 0.0 <= probability <= 1.0:
            raise ScoreError(f"{probability!r} is not a probability")
        return probability

    def _many(self, columns: Columns) -> NDArray[np.float64]:
        probabilities = self._loaded().score(columns)
        if not ((probabilities >= 0.0) & (probabilities <= 1.0)).all():
            raise ScoreError("not all that was given is a probability")
        return probabilities

    def _loaded(self) -> Scorer:
        if self._scorer is None:
            scorer = Scorer.load(self._folder)
            self._compare(scorer)
            self._scorer = scorer
        return self._scorer

    def _check(self) -> None:
        self._compare(self._loaded())

    def _compare(self, scorer: Scorer) -> None:
        for i, (row, expected) in enumerate(self._golden):
            if (found := scorer.score_one(row)) != expected:
                raise ScoreError(f"golden row {i} has {found!r} in place of {expected!r}")


def _fail(error: Exception) -> None:
    """Has a breaker see a failure that happened outside of it."""
    raise error


class ServedModel:
    """Scores with the main scorer, and with the fallback when that fails.

    Args:
        folder: of the model in the bento.
        contract: with its derived features bound to functions.
        failures: in a row, after which a scorer is left alone.
        seconds: for which it is.
        opened: called when the breaker of the main scorer opens.
    """

    def __init__(
        self,
        folder: Path,
        contract: Contract,
        *,
        failures: int,
        seconds: float,
        opened: Callable[[], None],
    ) -> None:
        self.card = ModelCard.model_validate_json((folder / "card.json").read_bytes())
        self.features = RequestFeatures(contract)
        golden = GoldenRows.model_validate_json((folder / "golden.json").read_bytes())
        customer = request_model(contract)
        rows = [self.features.row(customer.model_validate(body)) for body in golden.customers]

        def guarded(name: str, where: Path, expected: tuple[float, ...]) -> GuardedScorer:
            breaker = CircuitBreaker(
                fail_max=failures,
                reset_timeout=seconds,
                listeners=[_Listener(opened if name == "main" else lambda: None)],
                name=name,
                throw_new_error_on_trip=False,
            )
            return GuardedScorer(where, list(zip(rows, expected, strict=True)), breaker)

        self._main = guarded("main", folder, golden.main)
        self._fallback = guarded("fallback", folder / "fallback", golden.fallback)
        self._open_categories = tuple(
            name for name in contract.categories if contract[name].values is None
        )

    @property
    def degraded(self) -> bool:
        """The main scorer does not answer at present."""
        return not self._main.works

    @property
    def usable(self) -> bool:
        """A scorer answers at present."""
        return self._main.works or self._fallback.works

    def ready(self) -> bool:
        """Whether a scorer passes its golden rows; after a failure, it is what tries again."""
        main, fallback = self._main.passes(), self._fallback.passes()
        return main or fallback

    def score_one(self, row: Row) -> tuple[float, bool]:
        """Probability of one customer, and whether the fallback gave it.

        Raises:
            Unavailable: both scorers failed.
        """
        return _first(self._main.one, self._fallback.one, row)

    def score(self, columns: Columns) -> tuple[NDArray[np.float64], bool]:
        """Probabilities of many customers, and whether the fallback gave them.

        Raises:
            Unavailable: both scorers failed.
        """
        return _first(self._main.many, self._fallback.many, columns)

    def unknown(self, row: Row) -> list[str]:
        """Columns with a category that the contract leaves open and training never saw."""
        return [name for name in self._open_categories if not self._main.knows(name, row[name])]

    def unknown_among(self, columns: Columns) -> dict[str, int]:
        """Customers with such a category, by column."""
        return {
            name: sum(not self._main.knows(name, value) for value in columns[name].tolist())
            for name in self._open_categories
        }


def _first(
    main: Callable[[Given], Scored], fallback: Callable[[Given], Scored], given: Given
) -> tuple[Scored, bool]:
    try:
        return main(given), False
    except Exception as error:  # noqa: BLE001  # whatever it is, the fallback can still answer
        _say("main", error)
    try:
        return fallback(given), True
    except Exception as error:
        _say("fallback", error)
        raise Unavailable("no scorer can answer") from error


def _say(name: str, error: Exception) -> None:
    # That a breaker is open was said when it opened, and there may be thousands of requests.
    if not isinstance(error, CircuitBreakerError):
        LOG.warning("the %s scorer failed: %s: %s", name, type(error).__name__, error)


class _Listener(CircuitBreakerListener):
    def __init__(self, opened: Callable[[], None]) -> None:
        self._opened = opened

    def state_change(self, cb: CircuitBreaker, old_state: Any, new_state: Any) -> None:
        LOG.warning("the breaker of the %s scorer is %s", cb.name, new_state.name)
        if new_state.name == "open":
            self._opened()
