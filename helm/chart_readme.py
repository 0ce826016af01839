"""Writes the descriptions of the chart's values, whose only source are the comments of values.yaml.

`python helm/chart_readme.py` copies them into values.schema.json and into the table of README.md.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).with_name("churn-service")
MARK = "<!-- The rest is written by helm/chart_readme.py. -->\n"


def comments(text: str) -> dict[str, str]:
    """Returns the comment above each key of a values file, by the dotted path of the key."""
    found: dict[str, str] = {}
    keys: list[str] = []
    lines: list[str] = []
    for line in text.splitlines():
        if comment := re.fullmatch(r" *# ?(.*)", line):
            lines.append(comment[1])
            continue
        if key := re.match(r"( *)([\w-]+):", line):
            keys[len(key[1]) // 2 :] = [key[2]]
            if lines:
                found[".".join(keys)] = " ".join(lines)
        lines = []
    return found


def leaves(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Returns the values that are no mappings, or empty ones, by their dotted paths."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value and not _is_map(value):
            found |= leaves(value, f"{path}{name}.")
        else:
            found[path + name] = value
    return found


def described(schema: dict[str, Any], texts: dict[str, str]) -> dict[str, Any]:
    """Returns the schema with the texts as the descriptions of its properties."""
    schema = json.loads(json.dumps(schema))
    for path, text in texts.items():
        node, names = schema, path.split(".")
        for name in names[:-1]:
            node = node["properties"][name]
        rules = node["properties"][names[-1]]
        node["properties"][names[-1]] = {"description": text} | rules | {"description": text}
    return schema


def table(texts: dict[str, str], values: dict[str, Any]) -> str:
    """Returns the table of the values in Markdown."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    rows += [
        f"| `{path}` | `{json.dumps(value)}` | {texts[path].replace('|', chr(92) + '|')} |"
        for path, value in leaves(values).items()
    ]
    return "\n".join(rows) + "\n"


def outputs() -> dict[Path, str]:
    """Returns what the generated files must contain."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    texts = comments(text)
    schema, readme = CHART / "values.schema.json", CHART / "README.md"
    head = readme.read_text(encoding="utf-8").split(MARK)[0]
    current = json.loads(schema.read_text(encoding="utf-8"))
    return {
        schema: json.dumps(described(current, texts), indent=2) + "\n",
        readme: head + MARK + "\n" + table(texts, yaml.safe_load(text)),
    }


def _is_map(value: dict[str, Any]) -> bool:
    # Labels and quantities, which the values file writes on one line, are one value.
    return any("/" in name or "-" in name for name in value) or value.keys() <= {"cpu", "memory"}


if __name__ == "__main__":
    for path, content in outputs().items():
        path.write_text(content, encoding="utf-8")
