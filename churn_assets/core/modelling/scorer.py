"""Scorers: models as plain arrays, without sklearn, pandas or pickle.

`compiling.py` builds a `Scorer` from a fitted pipeline. This module needs only numpy and the
standard library, so that the service starts fast and stays small.
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
"""Version of the file format; raise it if an older `load` would misread the files."""

MOST_LEAVES = 64
"""Maximum number of leaves of a tree: one bit each in the widest mask."""

LOGIT_LIMIT = 700.0
"""exp() overflows just above this; the probability is then 0 or 1 to 300 digits."""

CHUNK = 256
"""Rows scored at a time, so that their masks stay in the processor's cache."""

NULL, UNKNOWN = "null", "unknown"


class Codes(dict[str, int]):
    """Table row by category; nulls and unknown categories have rows of their own."""

    def __init__(self, known: Mapping[str, int], null: int, unknown: int) -> None:
        super().__init__(known)
        self.null, self.unknown = null, unknown

    def __missing__(self, value: object) -> int:
        is_null = value is None or (isinstance(value, float) and isnan(value))
        return self.null if is_null else self.unknown

    def rows(self, values: NDArray[Any]) -> Rows:
        """Returns the table rows of an object array of shape (n,)."""
        return np.fromiter(map(self.__getitem__, values.tolist()), np.intp, len(values))


class Scorer(ABC):
    """A calibrated churn model.

    Attributes:
        inputs: Names of the model's inputs: numbers, then categories.
        numbers: Names of the numeric inputs.
        codes: Codes of each categorical input, in order.
        slope: Slope of the calibration, p = 1 / (1 + exp(slope * logit + offset)) (Platt,
            "Probabilistic outputs for support vector machines", 1999).
        offset: Offset of the calibration.
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
        """Returns the churn probabilities of many customers.

        Args:
            columns: Arrays of shape (n,) by input name: numbers as float64 with NaN for null,
                categories as objects (text, None or NaN). Other names are ignored.

        Returns:
            Probabilities, float64 of shape (n,).

        Raises:
            KeyError: An input is missing.
            ValueError: The arrays differ in length.
        """
        n = len(columns[self.inputs[0]])
        if wrong := [name for name in self.inputs if np.shape(columns[name]) != (n,)]:
            raise ValueError(f"inputs must have shape ({n},), these do not: {', '.join(wrong)}")
        exponent = self.slope * self._logits(columns, n) + self.offset
        limited: Floats = np.clip(exponent, -LOGIT_LIMIT, LOGIT_LIMIT)
        probabilities: Floats = 1.0 / (1.0 + np.exp(limited))
        return probabilities

    def score_one(self, customer: Mapping[str, Value]) -> float:
        """Returns the churn probability of one customer, bit for bit equal to that of `score`.

        Args:
            customer: Values by input name; None or NaN for null. Other names are ignored.

        Raises:
            KeyError: An input is missing.
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
        """Returns the arrays that the constructor takes in addition to those of every scorer."""

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
        """Loads a scorer from the files that `save` wrote.

        Raises:
            ValueError: A file is missing, broken or of another format, or the files do not fit
                together.
        """
        about = _read_json(directory / "scorer.json")
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            found = about.get("format") if isinstance(about, dict) else about
            raise ValueError(f"{directory}: format {found!r} is unknown, supported: {FORMAT}")
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

    The leaves of a tree are the bits of a mask; the leftmost leaf is the lowest bit. A node whose
    condition fails rules out the leaves on its left. The exit leaf is the lowest leaf that no
    failing node rules out. One row of a table holds the leaves that remain for a feature's value in
    all trees, so a customer's exit leaves are the conjunction of one row per feature.

    Attributes:
        masks: Unsigned integers of shape (rows, trees): the leaves that remain. Each number has one
            row per interval between its thresholds and one row for null. The rows that `codes`
            points at follow.
        thresholds: Thresholds of all numbers, one number after another; those of each number
            increase and end with inf.
        leaves: Float64 (trees, leaves): leaf values in log-odds.
        baseline: Log-odds before the first tree, shape ().
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
        # Each preceding number has one row more than bounds: the row for null.
        self._starts = [int(i) for i in np.r_[0, ends][:-1] + np.arange(len(ends))]
        self._check(len(ends))
        # One customer's masks are combined as long integers: a numpy call alone takes longer.
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
        # NaN sorts after the last bound, inf, which is the position of the row for null.
        rows = [
            bounds.searchsorted(columns[name]) + start
            for name, bounds, start in zip(self.numbers, self._bounds, self._starts, strict=True)
        ] + [codes.rows(columns[name]) for name, codes in self.codes.items()]
        logits = np.empty(n)
        # Buffers are reused, because allocating memory would take longer than filling it. `out`
        # is only filled directly with mode="clip", although no row is out of bounds.
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
    """Returns the position of the lowest set bit, from 1; the highest position if none is set."""
    positions: NDArray[np.uint8] = np.bitwise_count(masks ^ (masks - 1))
    return positions


class LinearScorer(Scorer):
    """Logistic regression as sums of weights.

    Attributes:
        terms: Float64 (numbers, 4): for each number the term that is added if it is known, its
            centre, its scale, and the weight of the scaled number. Nulls add nothing.
        weights: Float64 (rows,): term of a category, at the row that `codes` points at.
        limits: Float64 (2,): absolute values at which numbers and scaled numbers are clipped.
        intercept: Log-odds of a customer with null for all inputs, shape ().
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
