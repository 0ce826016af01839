"""The served model: the main scorer, the fallback scorer and their circuit breakers."""

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
Input = TypeVar("Input")
Output = TypeVar("Output")


class ScoreError(ValueError):
    """A scorer returned a value that is no probability, or a wrong one for a golden row."""


class Unavailable(RuntimeError):  # noqa: N818  # names the state of the service
    """Both scorers failed."""


class GuardedScorer:
    """A scorer behind a circuit breaker (Nygard, "Release it!", 2007).

    After some failures in a row the breaker opens and keeps calls from the scorer for a while. Then
    one call tries the scorer again.

    Args:
        folder: Folder of the scorer's files. They are read on first use, and again after a failure
            to read them.
        golden: Rows with the probabilities that the scorer must return, to the bit.
        breaker: Circuit breaker of the scorer.
    """

    def __init__(
        self, folder: Path, golden: list[tuple[Row, float]], breaker: CircuitBreaker
    ) -> None:
        self._folder, self._golden, self._breaker = folder, golden, breaker
        self._scorer: Scorer | None = None

    @property
    def works(self) -> bool:
        """Whether the scorer is loaded and its breaker is closed."""
        return self._scorer is not None and self._breaker.current_state == "closed"

    def score_one(self, row: Row) -> float:
        """Probability of one customer; raises any error of the scorer or of its breaker."""
        return self._guarded(self._score_one, row)

    def score(self, columns: Columns) -> NDArray[np.float64]:
        """Probabilities of many customers; raises any error of the scorer or of its breaker."""
        return self._guarded(self._score, columns)

    def passes(self) -> bool:
        """Whether the scorer returns the probability of every golden row, to the bit."""
        try:
            self._breaker.call(self._check)
        except CircuitBreakerError:  # Logged when the breaker opened.
            return False
        except Exception as error:  # noqa: BLE001  # the log has the reason
            LOG.error("%s does not pass its golden rows: %s", self._folder, error)  # noqa: TRY400
            return False
        return True

    def knows(self, name: str, value: Value) -> bool:
        """Whether training saw this category; true while the scorer is not loaded."""
        return self._scorer is None or value is None or value in self._scorer.codes[name]

    def _guarded(self, score: Callable[[Input], Output], data: Input) -> Output:
        # Bypassed while nothing fails: a call of the breaker takes as long as a prediction.
        if self._breaker.fail_counter == 0:
            try:
                return score(data)
            except Exception as error:
                self._breaker.call(_raise, error)
                raise
        scored: Output = self._breaker.call(score, data)
        return scored

    def _score_one(self, row: Row) -> float:
        probability = self._loaded().score_one(row)
        if not 0.0 <= probability <= 1.0:
            raise ScoreError(f"{probability!r} is not a probability")
        return probability

    def _score(self, columns: Columns) -> NDArray[np.float64]:
        probabilities = self._loaded().score(columns)
        if not ((probabilities >= 0.0) & (probabilities <= 1.0)).all():
            raise ScoreError("not all values are probabilities")
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
                raise ScoreError(f"golden row {i} has {found!r} instead of {expected!r}")


def _raise(error: Exception) -> None:
    """Raises an error for a breaker to count."""
    raise error


class ServedModel:
    """Scores with the main scorer, and with the fallback scorer where the main one fails.

    Args:
        folder: Folder of the model in the bento.
        contract: Contract with its derived features bound to functions.
        failures: Number of failures in a row that opens the breaker of a scorer.
        seconds: Time for which a breaker stays open.
        opened: Called when the breaker of the main scorer opens.
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

        def guarded(name: str, files: Path, expected: tuple[float, ...]) -> GuardedScorer:
            breaker = CircuitBreaker(
                fail_max=failures,
                reset_timeout=seconds,
                listeners=[_Listener(opened if name == "main" else lambda: None)],
                name=name,
                throw_new_error_on_trip=False,
            )
            return GuardedScorer(files, list(zip(rows, expected, strict=True)), breaker)

        self._main = guarded("main", folder, golden.main)
        self._fallback = guarded("fallback", folder / "fallback", golden.fallback)
        self._open_categories = tuple(
            name for name in contract.categories if contract[name].values is None
        )

    @property
    def degraded(self) -> bool:
        """Whether the main scorer does not work at present."""
        return not self._main.works

    @property
    def usable(self) -> bool:
        """Whether a scorer works at present."""
        return self._main.works or self._fallback.works

    def ready(self) -> bool:
        """Whether a scorer passes its golden rows; the check also tries a failed scorer again."""
        main, fallback = self._main.passes(), self._fallback.passes()
        return main or fallback

    def score_one(self, row: Row) -> tuple[float, bool]:
        """Probability of one customer, and whether the fallback scorer computed it.

        Raises:
            Unavailable: Both scorers failed.
        """
        return _with_fallback(self._main.score_one, self._fallback.score_one, row)

    def score(self, columns: Columns) -> tuple[NDArray[np.float64], bool]:
        """Probabilities of many customers, and whether the fallback scorer computed them.

        Raises:
            Unavailable: Both scorers failed.
        """
        return _with_fallback(self._main.score, self._fallback.score, columns)

    def unknown(self, row: Row) -> list[str]:
        """Columns with a category that the contract leaves open and training never saw."""
        return [name for name in self._open_categories if not self._main.knows(name, row[name])]

    def unknown_among(self, columns: Columns) -> dict[str, int]:
        """Number of customers with such a category, by column."""
        return {
            name: sum(not self._main.knows(name, value) for value in columns[name].tolist())
            for name in self._open_categories
        }


def _with_fallback(
    main: Callable[[Input], Output], fallback: Callable[[Input], Output], data: Input
) -> tuple[Output, bool]:
    try:
        return main(data), False
    except Exception as error:  # noqa: BLE001  # after any error the fallback can still score
        _log_failure("main", error)
    try:
        return fallback(data), True
    except Exception as error:
        _log_failure("fallback", error)
        raise Unavailable("no scorer can answer") from error


def _log_failure(name: str, error: Exception) -> None:
    # An open breaker was logged when it opened, and thousands of requests may meet it.
    if not isinstance(error, CircuitBreakerError):
        LOG.warning("the %s scorer failed: %s: %s", name, type(error).__name__, error)


class _Listener(CircuitBreakerListener):
    def __init__(self, opened: Callable[[], None]) -> None:
        self._opened = opened

    def state_change(self, cb: CircuitBreaker, old_state: Any, new_state: Any) -> None:
        LOG.warning("the breaker of the %s scorer is %s", cb.name, new_state.name)
        if new_state.name == "open":
            self._opened()
