"""The model as plain arrays: scores without sklearn, pandas or pickle.

`compiling.py` makes a `Scorer` out of a fitted pipeline. This module needs numpy and the standard
library alone, so that a service which scores starts in a moment and stays small.
"""

import json
import zipfile
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Mapping
from math import isnan
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Value = float | str | None

FORMAT = 1
"""Version of the files; raise it when an older `load` would misread them."""

MOST_LEAVES = 64
"""Leaves of a tree: one bit each in the widest mask."""

LOGIT_LIMIT = 700.0
"""exp() overflows just above; the probability is 0 or 1 to 300 digits by then."""

CHUNK = 256
"""Rows scored at a time, so that their masks stay in the processor's cache."""

NULL, UNKNOWN = "null", "unknown"


class Codes(dict[str, int]):
    """Row of a table by category; nulls and unknown categories have rows of their own."""

    def __init__(self, known: Mapping[str, int], null: int, unknown: int) -> None:
        super().__init__(known)
        self.null, self.unknown = null, unknown

    def __missing__(self, value: object) -> int:
        is_null = value is None or (isinstance(value, float) and isnan(value))
        return self.null if is_null else self.unknown

    def rows(self, values: NDArray[Any]) -> Rows:
        """Rows of an object array of shape (n,)."""
        return np.fromiter(map(self.__getitem__, values.tolist()), np.intp, len(values))


class Scorer(ABC):
    """A calibrated churn model.

    Attributes:
        inputs: names of the model's inputs: numbers, then categories.
        numbers: names of the numeric inputs.
        codes: of each categorical input, in order.
        slope: of the calibration, p = 1 / (1 + exp(slope * logit + offset)) (Platt,
            "Probabilistic outputs for support vector machines", 1999).
        offset: of the calibration.
    """

    kind: ClassVar[str]

    def __init__(
        self, numbers: tuple[str, ...], codes: Mapping[str, Codes], slope: float, offset: float
    ) -> None:
        self.numbers = numbers
        self.codes = dict(codes)
        self.inputs = (*numbers, *codes)
        self.slope, self.offset = slope, offset

    def score(self, columns: Mapping[str, NDArray[Any]]) -> Floats:
        """Churn probabilities of many customers.

        Args:
            columns: arrays of shape (n,) by input name; numbers float64 with NaN for null,
                categories objects, text or None or NaN. Others are ignored.

        Returns:
            Probabilities, float64 of shape (n,).

        Raises:
            KeyError: an input is missing.
            ValueError: the arrays differ in length.
        """
        n = len(columns[self.inputs[0]])
        if wrong := [name for name in self.inputs if np.shape(columns[name]) != (n,)]:
            raise ValueError(f"inputs must have shape ({n},), these have not: {', '.join(wrong)}")
        exponent = self.slope * self._logits(columns, n) + self.offset
        limited: Floats = np.clip(exponent, -LOGIT_LIMIT, LOGIT_LIMIT)
        probabilities: Floats = 1.0 / (1.0 + np.exp(limited))
        return probabilities

    def score_one(self, customer: Mapping[str, Value]) -> float:
        """Churn probability of one customer, bit for bit what `score` gives.

        Args:
            customer: values by input name; None or NaN for null. Others are ignored.

        Raises:
            KeyError: an input is missing.
        """
        exponent = self.slope * self._logit(customer) + self.offset
        limited = min(max(exponent, -LOGIT_LIMIT), LOGIT_LIMIT)
        return 1.0 / (1.0 + float(np.exp(limited)))  # math.exp may differ in the last bit

    @abstractmethod
    def _logits(self, columns: Mapping[str, NDArray[Any]], n: int) -> Floats: ...

    @abstractmethod
    def _logit(self, customer: Mapping[str, Value]) -> float: ...

    @abstractmethod
    def _arrays(self) -> dict[str, NDArray[Any]]:
        """What the constructor takes beside what every scorer has."""

    def save(self, directory: Path) -> None:
        """Writes `scorer.npz` and `scorer.json`; the same model gives the same bytes."""
        directory.mkdir(parents=True, exist_ok=True)
        np.savez(directory / "scorer.npz", allow_pickle=False, **self._arrays())
        codes = {
            name: {"known": dict(codes), NULL: codes.null, UNKNOWN: codes.unknown}
            for name, codes in self.codes.items()
        }
        about = {
            "format": FORMAT,
            "kind": self.kind,
            "numbers": self.numbers,
            "codes": codes,
            "slope": self.slope,
            "offset": self.offset,
        }
        (directory / "scorer.json").write_text(json.dumps(about, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> "Scorer":
        """Reads what `save` wrote.

        Raises:
            ValueError: a file is missing or broken, of another format, or they do not fit.
        """
        about = _read_json(directory / "scorer.json")
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            found = about.get("format") if isinstance(about, dict) else about
            raise ValueError(f"{directory}: format {found!r} is unknown, this reads {FORMAT}")
        kinds = {kind.kind: kind for kind in (TreeScorer, LinearScorer)}
        if about.get("kind") not in kinds:
            raise ValueError(f"{directory}: kind {about.get('kind')!r} is unknown")
        arrays = _read_arrays(directory / "scorer.npz")
        try:
            codes = {
                name: Codes(entry["known"], entry[NULL], entry[UNKNOWN])
                for name, entry in about["codes"].items()
            }
            return kinds[about["kind"]](
                numbers=tuple(about["numbers"]),
                codes=codes,
                slope=float(about["slope"]),
                offset=float(about["offset"]),
                **arrays,
            )
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            raise ValueError(
                f"{directory}: not a consistent scorer: {type(error).__name__}: {error}"
            ) from error


class TreeScorer(Scorer):
    """Boosted trees as bit masks, after QuickScorer (Lucchese et al., SIGIR 2015).

    A tree's leaves are the bits of a mask, the leftmost leaf the lowest bit. A node whose
    condition fails rules out the leaves on its left; the exit leaf is the lowest that no failing
    node rules out. All that a feature's value rules out, in all trees, is one row of a table, so
    a customer's exit leaves are the conjunction of one row for each feature.

    Attributes:
        masks: unsigned integers of shape (rows, trees): the leaves that remain. The rows of a
            number: one for each interval that its thresholds bound, one for null. Then the rows
            that `codes` points at.
        thresholds: of all numbers, one after another; each number's increase and end with inf.
        leaves: float64 (trees, leaves): values in log-odds.
        baseline: log-odds before the first tree, shape ().
    """

    kind = "trees"

    def __init__(
        self,
        numbers: tuple[str, ...],
        codes: Mapping[str, Codes],
        slope: float,
        offset: float,
        *,
        masks: NDArray[Any],
        thresholds: Floats,
        leaves: Floats,
        baseline: Floats,
    ) -> None:
        super().__init__(numbers, codes, slope, offset)
        self.masks, self.thresholds, self.leaves = masks, thresholds, leaves
        self.baseline = float(baseline)
        ends = np.flatnonzero(np.isposinf(thresholds)) + 1
        self._bounds = np.split(thresholds, ends)[:-1]
        # One row more than bounds for each number before: the row of its nulls.
        self._starts = [int(i) for i in np.r_[0, ends][:-1] + np.arange(len(ends))]
        self._check(len(ends))
        # One customer's masks meet in long integers: numpy takes longer to start than they to end.
        self._row_bytes = masks.shape[1] * masks.itemsize
        self._all = (1 << 8 * self._row_bytes) - 1
        self._integers = [int.from_bytes(row.tobytes(), "little") for row in masks]
        self._lists = [
            (name, bounds.tolist(), self._integers[start : start + len(bounds) + 1])
            for name, bounds, start in zip(numbers, self._bounds, self._starts, strict=True)
        ]
        self._values = leaves.ravel()
        self._before = np.arange(len(leaves), dtype=np.intp) * leaves.shape[1] - 1

    def _check(self, n_bounded: int) -> None:
        rows = len(self.thresholds) + n_bounded
        pointed = [row for c in self.codes.values() for row in (*c.values(), c.null, c.unknown)]
        faults = {
            f"{n_bounded} lists of thresholds for {len(self.numbers)} numbers": (
                n_bounded != len(self.numbers)
            ),
            "thresholds do not increase": any(np.any(np.diff(b) <= 0) for b in self._bounds),
            "masks are not a table of unsigned integers": (
                self.masks.ndim != 2 or self.masks.dtype.kind != "u"
            ),
            "leaves do not fit the masks": (
                self.leaves.ndim != 2
                or len(self.leaves) != self.masks.shape[-1]
                or self.leaves.shape[1] != 8 * self.masks.itemsize
            ),
            "codes point outside the table": any(
                not rows <= row < len(self.masks) for row in pointed
            ),
            "masks are fewer than the thresholds need": rows > len(self.masks),
        }
        if found := [fault for fault, holds in faults.items() if holds]:
            raise ValueError("; ".join(found))

    def _logits(self, columns: Mapping[str, NDArray[Any]], n: int) -> Floats:
        # NaN sorts behind the last bound, inf: where the row of nulls is.
        rows = [
            bounds.searchsorted(columns[name]) + start
            for name, bounds, start in zip(self.numbers, self._bounds, self._starts, strict=True)
        ] + [codes.rows(columns[name]) for name, codes in self.codes.items()]
        logits = np.empty(n)
        # Buffers are used again and again: asking for memory would take longer than filling it.
        # That needs mode="clip", though no row is outside.
        shape = (min(n, CHUNK), self.masks.shape[1])
        buffers = [np.empty(shape, kind) for kind in (*2 * [self.masks.dtype], np.intp, np.float64)]
        for begin in range(0, n, CHUNK):
            some = slice(begin, begin + CHUNK)
            masks, more, positions, values = (b[: len(logits[some])] for b in buffers)
            masks.fill(np.iinfo(masks.dtype).max)
            for feature in rows:
                self.masks.take(feature[some], axis=0, out=more, mode="clip")
                masks &= more
            np.add(_lowest_bit(masks), self._before, out=positions)
            self._values.take(positions, out=values, mode="clip").sum(axis=1, out=logits[some])
        return logits + self.baseline

    def _logit(self, customer: Mapping[str, Value]) -> float:
        numbers: Mapping[str, Any] = customer
        remaining = self._all
        for name, bounds, rows in self._lists:
            value = numbers[name]
            if value is None or isnan(value):
                remaining &= rows[-1]
            else:
                remaining &= rows[bisect_left(bounds, value)]
        for name, codes in self.codes.items():
            remaining &= self._integers[codes[customer[name]]]  # type: ignore[index]
        masks = np.frombuffer(remaining.to_bytes(self._row_bytes, "little"), self.masks.dtype)
        positions = _lowest_bit(masks) + self._before
        return float(np.add.reduce(self._values[positions])) + self.baseline

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "masks": self.masks,
            "thresholds": self.thresholds,
            "leaves": self.leaves,
            "baseline": np.array(self.baseline),
        }


def _lowest_bit(masks: NDArray[Any]) -> NDArray[np.uint8]:
    """Position of the lowest set bit, from 1; the highest position where none is set."""
    positions: NDArray[np.uint8] = np.bitwise_count(masks ^ (masks - 1))
    return positions


class LinearScorer(Scorer):
    """Logistic regression as sums of weights.

    Attributes:
        terms: float64 (numbers, 4): of each number what is added if it is known, its centre, its
            scale, and the weight of the scaled number. Nulls add nothing.
        weights: float64 (rows,): what a category adds, at the row that `codes` points at.
        limits: float64 (2,): numbers, and scaled numbers, are clipped to plus or minus these.
        intercept: log-odds of a customer of whom all is null, shape ().
    """

    kind = "linear"

    def __init__(
        self,
        numbers: tuple[str, ...],
        codes: Mapping[str, Codes],
        slope: float,
        offset: float,
        *,
        terms: Floats,
        weights: Floats,
        limits: Floats,
        intercept: Floats,
    ) -> None:
        super().__init__(numbers, codes, slope, offset)
        self.terms, self.weights, self.limits = terms, weights, limits
        self.intercept = float(intercept)
        if terms.shape != (len(numbers), 4):
            raise ValueError(f"terms have shape {terms.shape}, not ({len(numbers)}, 4)")
        pointed = [row for c in codes.values() for row in (*c.values(), c.null, c.unknown)]
        if any(not 0 <= row < len(weights) for row in pointed):
            raise ValueError("codes point outside the weights")
        self._limit, self._scaled_limit = limits.tolist()
        self._lists = list(zip(numbers, terms.tolist(), strict=True))
        self._weights = weights.tolist()

    def _logits(self, columns: Mapping[str, NDArray[Any]], n: int) -> Floats:
        logits = np.full(n, self.intercept)
        for name, (known, centre, scale, weight) in self._lists:
            number = np.clip(columns[name], -self._limit, self._limit)
            scaled = np.clip((number - centre) / scale, -self._scaled_limit, self._scaled_limit)
            logits += np.where(np.isnan(number), 0.0, known + weight * scaled)
        for name, codes in self.codes.items():
            logits += self.weights[codes.rows(columns[name])]
        return logits

    def _logit(self, customer: Mapping[str, Value]) -> float:
        logit, limit, scaled_limit = self.intercept, self._limit, self._scaled_limit
        for name, (known, centre, scale, weight) in self._lists:
            number: Any = customer[name]
            if number is not None and not isnan(number):
                scaled = (min(max(number, -limit), limit) - centre) / scale
                logit += known + weight * min(max(scaled, -scaled_limit), scaled_limit)
        for name, codes in self.codes.items():
            logit += self._weights[codes[customer[name]]]  # type: ignore[index]
        return logit

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "terms": self.terms,
            "weights": self.weights,
            "limits": self.limits,
            "intercept": np.array(self.intercept),
        }


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
