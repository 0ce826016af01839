"""Imports run one way, between the layers and between the subpackages inside them."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from churn_assets_tests.documents import ROOT

PACKAGE = ROOT / "churn_assets"
SERVICE = ROOT / "bento" / "churn_service"

MAY_IMPORT = {
    "contracts": {"contracts"},
    "core": {"core", "contracts"},
    "adapters": {"adapters", "core", "contracts", "settings"},
    "defs": {"defs", "adapters", "core", "contracts", "settings"},
    "settings": {"core"},
    "definitions": {"defs", "settings"},
    "audit": {"defs", "adapters", "contracts", "settings"},
    "preflight": {"defs", "adapters", "contracts", "settings"},
    "daemon": set(),
    "move_mlflow": set(),
    "webserver": set(),
    "home": {"settings"},
    "operations": {"definitions", "defs", "settings"},
    "demo": {"demo", "definitions", "defs", "adapters", "core", "contracts", "settings"},
}
LIBRARIES = {
    "contracts": {"numpy", "pandas", "pandera", "pydantic"},
    "core": {
        "numpy", "pandas", "pandera", "pyarrow", "pydantic", "scipy", "sklearn", "threadpoolctl",
    },
}  # fmt: skip
CORE = {
    "limits": set(),
    "policies": set(),
    "settings_errors": set(),
    "verdict": set(),
    "data": set(),
    "evaluation": {"data"},
    "modelling": {"evaluation", "data"},
    "scoring": {"modelling", "evaluation", "data"},
    "monitoring": {"scoring", "modelling", "evaluation", "data"},
    "governance": {"evaluation", "data"},
    "simulation": set(),
}
"""Subpackages and modules of `core`, and which others each may import."""

DEFS = {
    "platform": set(),
    "gates": {"platform"},
    "assets": {"gates", "platform"},
    "automation": {"assets", "gates", "platform"},
    "alerting": {"automation", "assets", "gates", "platform"},
    "stages": {"alerting", "automation", "assets"},
}
HTTP_FREE = {"access", "inference", "observability"}
SERVICE_PARTS = {
    "problems": set(),
    "deadline": set(),
    "graceful_shutdown": set(),
    "access": {"problems"},
    "settings": {"access"},
    "observability": {"problems"},
    "inference": {"observability", "problems"},
    "rescoring": {"settings"},
    "worker": {*HTTP_FREE, "problems", "deadline", "graceful_shutdown", "settings"},
    "http": {*HTTP_FREE, "problems", "deadline", "worker"},
}
EVERYWHERE = {"core": {"limits", "policies", "verdict"}}
"""Modules at the root that every subpackage may import."""

ONLY_IN = {
    "dagster": {"daemon", "defs", "definitions", "demo", "preflight"},
    "dagster_k8s": {"defs"},
    "dagster_mlflow": {"defs"},
    "dagster_webserver": {"webserver"},
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    for name in imported(path):
        top, *rest = name.split(".")
        if top == "churn_assets":
            assert not rest or rest[0] in MAY_IMPORT[layer(path)], f"{path} imports {name}"
        elif layer(path) in LIBRARIES and top not in sys.stdlib_module_names:
            assert top in LIBRARIES[layer(path)], f"{path} imports {name}"
        assert layer(path) in ONLY_IN.get(top, {layer(path)}), f"{path} imports {name}"


PARTS = [
    ("churn_assets.core", PACKAGE / "core", CORE),
    ("churn_assets.defs", PACKAGE / "defs", DEFS),
    ("churn_service", SERVICE, SERVICE_PARTS),
]


@pytest.mark.parametrize(("package", "folder", "parts"), PARTS, ids=lambda value: str(value)[:30])
def test_subpackages_import_one_way(
    package: str, folder: Path, parts: Mapping[str, set[str]]
) -> None:
    shared = EVERYWHERE.get(folder.name, set())
    for path in folder.rglob("*.py"):
        part = path.relative_to(folder).with_suffix("").parts[0]
        if part == "__init__":
            continue
        allowed = parts[part] | shared | {part}
        for name in imported(path):
            if name.startswith(f"{package}."):
                other = name.removeprefix(f"{package}.").split(".")[0]
                assert other in allowed, f"{path} imports {name}: {part} may not import {other}"


@pytest.mark.parametrize("parts", [CORE, DEFS, SERVICE_PARTS], ids=["core", "defs", "service"])
def test_the_allowed_imports_have_no_cycle(parts: Mapping[str, set[str]]) -> None:
    assert tuple(TopologicalSorter(parts).static_order())


def test_simulation_is_imported_only_by_its_source_and_the_demo() -> None:
    importers = {
        path.relative_to(PACKAGE).parts[:2]
        for path in modules()
        if any(name.startswith("churn_assets.core.simulation") for name in imported(path))
    }
    assert {importer for importer in importers if importer[:2] != ("core", "simulation")} == {
        ("adapters", "sources"),
        ("demo", "phases.py"),
    }


def test_only_settings_read_the_environment() -> None:
    readers = {
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    }
    # `serving.py` passes the environment on to the process that it starts.
    assert readers <= {"settings.py", "adapters/serving.py"}


def test_the_bento_imports_core_and_contracts_only() -> None:
    for path in (ROOT / "bento").rglob("*.py"):
        for name in imported(path):
            if name.startswith("churn_assets"):
                assert name.split(".")[1] in {"core", "contracts"}, f"{path} imports {name}"


def test_the_entry_point_is_short() -> None:
    assert len((PACKAGE / "definitions.py").read_text().splitlines()) <= 30


HEAVY = {"mlflow", "sklearn", "matplotlib", "scipy.stats", "bentoml", "dagster_mlflow"}


def test_the_code_location_imports_nothing_heavy() -> None:
    code = "import sys; from churn_assets.definitions import defs; defs(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert HEAVY & set(done.stdout.split()) == set()
