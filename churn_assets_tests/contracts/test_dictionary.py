from pathlib import Path

from churn_assets.contracts.dictionary import dictionary

ROOT = Path(__file__).parents[2]


def test_the_data_dictionary_is_current() -> None:
    kept = (ROOT / "docs/data-dictionary.md").read_text(encoding="utf-8")
    assert kept == dictionary(), "run `make docs`"
