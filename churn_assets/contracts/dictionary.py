"""Data dictionary: all shipped contracts as one Markdown page.

`python -m churn_assets.contracts.dictionary` prints docs/data-dictionary.md.
"""

import sys

from churn_assets.contracts.contract import Column, Contract
from churn_assets.contracts.loading import SHIPPED_NAMES, load_contract

HEAD = """# Data dictionary

Generated from the contracts by `make docs`; a test keeps it current. *Personal* data is deleted
at the person's request. The evaluation is repeated for each group of a *sensitive* attribute.
"""


def dictionary() -> str:
    """Returns the whole page as Markdown."""
    return "\n".join([HEAD, *(_section(load_contract(name)) for name in SHIPPED_NAMES)])


def _section(contract: Contract) -> str:
    money = contract.economics
    lines = [
        f"## `{contract.name}` {contract.version}",
        "",
        f"{contract.description} Churn means leaving within {contract.horizon_months} "
        f"month(s). A retained customer is worth {money.value_of_kept_customer:g} "
        f"{money.currency}, an offer costs {money.cost_of_offer:g} {money.currency}, and "
        f"{money.acceptance_rate:.0%} of the customers about to leave accept it: offers pay from a "
        f"churn probability of {money.break_even_probability:.3f}.",
        "",
        "| column | role | meaning | values | unit | null | marks |",
        "|---|---|---|---|---|---|---|",
        *(_row(column) for column in contract.columns),
        *(
            f"| `{f.name}` | derived | {f.description} | number, from "
            f"{', '.join(f'`{name}`' for name in f.inputs)} | | yes | |"
            for f in contract.derived
        ),
        "",
    ]
    return "\n".join(lines)


def _row(column: Column) -> str:
    marks = {"personal": column.personal, "sensitive": column.sensitive}
    source = "" if column.source_name == column.name else f" (`{column.source_name}` in the source)"
    cells = [
        f"`{column.name}`{source}",
        column.role,
        column.description,
        column.limits,
        column.unit,
        "yes" if column.nullable else "no",
        ", ".join(name for name, marked in marks.items() if marked),
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(dictionary())
