"""Sizes of modules, functions and folders, and the paths that the documents name."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from churn_assets_tests.documents import ROOT

PACKAGES = ("churn_assets", "bento", "benchmarks", "containers", "helm")
MOST_LINES, MOST_FUNCTION_LINES, MOST_MODULES = 400, 60, 14

DOCUMENTS = ["README.md", "bento/README.md", "benchmarks/README.md", *(
    str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").glob("*.md"))
)]  # fmt: skip

PATH = re.compile(
    r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|md|yaml|toml|j2|png))`"  # a file
    r"|`((?:[\w.-]+/)+)`"  # a folder
    r"|\]\(([^)#:\s]+)[)#]"  # the target of a link within the project
)
MADE_BY_RUNS = {
    "card.json", "contract.json", "golden.json", "shop.py", "fallback/", "dist/", "my-values.yaml",
}  # fmt: skip

PREFIXES = ("", "churn_assets", "churn_assets_tests", "bento", "bento/churn_service")
"""Folders that a path in a document may start from."""


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_and_no_function_is_long(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            assert lines <= MOST_FUNCTION_LINES, f"{node.name} has {lines} lines"


def test_no_folder_has_many_modules() -> None:
    counts = Counter(path.parent for path in modules() if path.name != "__init__.py")
    assert {folder: n for folder, n in counts.items() if n > MOST_MODULES} == {}


def named_paths(document: Path) -> Iterator[str]:
    for groups in PATH.findall(document.read_text(encoding="utf-8")):
        yield "".join(groups)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_that_a_document_names_exists(name: str) -> None:
    document = ROOT / name
    starts = [document.parent, *(ROOT / prefix for prefix in PREFIXES)]
    missing = {
        path
        for path in named_paths(document)
        if not any((start / path).exists() for start in starts)
    }
    assert missing - MADE_BY_RUNS == set()
