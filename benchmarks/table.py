"""The table in which benchmarks print their measurements."""

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd


class Line(NamedTuple):
    """One measurement and its peer's; a measurement without an aim is for information."""

    quantity: str
    measured: float
    unit: str = ""
    peer: float | None = None
    ratio: float | None = None
    aim: str = ""
    passed: bool | None = None


def show(lines: Iterable[Line]) -> None:
    verdicts = {True: "pass", False: "miss", None: ""}
    # Without the columns, no line at all would be a table without `passed`.
    table = pd.DataFrame(lines, columns=Line._fields)
    table["passed"] = table["passed"].map(verdicts)
    print(table.to_string(index=False, na_rep="", float_format=lambda value: f"{value:,.4g}"))
