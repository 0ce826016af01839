"""Dagster's private names are in one module, each with a reason, and still exist."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

import churn_assets
from churn_assets.defs.platform import dagster_internals

PACKAGE = Path(churn_assets.__file__).parent
INTERNALS = Path(dagster_internals.__file__)


def private_imports(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of every import from a private module of Dagster."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dagster._"):
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((a.name, "") for a in node.names if a.name.startswith("dagster._"))


@pytest.mark.parametrize(("module", "name"), list(private_imports(INTERNALS)))
def test_private_name_exists(module: str, name: str) -> None:
    try:
        found = hasattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        found = False
    assert found, (
        f"dagster {dg.__version__} has no {name} in {module}, which is needed as: "
        f"{dagster_internals.REASONS[name]}. Find its new place, or do without it, in {INTERNALS}"
    )


@pytest.mark.parametrize("name", list(dagster_internals.REASONS))
def test_private_name_has_no_public_export(name: str) -> None:
    assert not hasattr(dg, name), f"import {name} from dagster, and delete it in {INTERNALS}"


def test_compute_log_manager_exists() -> None:
    module = importlib.import_module(dagster_internals.NO_COMPUTE_LOGS["module"])
    assert hasattr(module, dagster_internals.NO_COMPUTE_LOGS["class"])


def test_every_private_name_has_a_reason() -> None:
    assert {name for _, name in private_imports(INTERNALS)} == set(dagster_internals.REASONS)


def test_no_other_module_imports_private_names() -> None:
    others = [path for path in PACKAGE.rglob("*.py") if path != INTERNALS]
    assert others
    assert {path: names for path in others if (names := list(private_imports(path)))} == {}
