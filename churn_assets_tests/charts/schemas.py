"""The schemas of the charts' values, and the script that derives documents from them."""

import importlib.util
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from churn_assets_tests.charts.rendering import REPO

Node = dict[str, Any]


def script() -> ModuleType:
    """Returns helm/chart_readme.py as a module."""
    spec = importlib.util.spec_from_file_location("chart_readme", REPO / "helm/chart_readme.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resolved(node: Node, schema: Node) -> Node:
    """Returns a node with the definition that it refers to."""
    name = node.get("$ref", "").removeprefix("#/$defs/")
    return schema["$defs"][name] | node if name else node


def objects(node: Node, schema: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """Yields every object of a schema, by its path; `0` is an element of a list."""
    node = resolved(node, schema)
    if node.get("type") == "array":
        yield from objects(node["items"], schema, f"{path}.0")
    if node.get("type") == "object":
        yield path.lstrip("."), node
        for name, child in node.get("properties", {}).items():
            yield from objects(child, schema, f"{path}.{name}")


def closed(schema: Node) -> list[str]:
    """Returns the paths of the objects whose keys are all known."""
    found = objects(schema, schema)
    return [path for path, node in found if node.get("additionalProperties") is False]


def unknown(path: str) -> Any:
    """Returns values with a key that no schema knows."""
    value: Any = {"notAKey": 1}
    for name in reversed(path.split(".") if path else []):
        value = [value] if name == "0" else {name: value}
    return value
