"""Writes what the charts' documents derive: `python helm/chart_readme.py`.

The descriptions of the values, whose only source are the comments of values.yaml, go into
values.schema.json and into the table of README.md. The schema of `settings` in churn-platform is
that of the platform's own settings.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from churn_assets.settings import HIDDEN, Settings

CHARTS = tuple(Path(__file__).with_name(name) for name in ("churn-service", "churn-platform"))
SET_BY_THE_CHART = {
    "contract", "home", "lake", "reports", "archives", "predictions", "mlflow_tracking_uri",
    "id_key_file",
}  # fmt: skip
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


def outputs(chart: Path) -> dict[Path, str]:
    """Returns what the generated files of a chart must contain."""
    text = (chart / "values.yaml").read_text(encoding="utf-8")
    texts, values = comments(text), yaml.safe_load(text)
    schema, readme = chart / "values.schema.json", chart / "README.md"
    head = readme.read_text(encoding="utf-8").split(MARK)[0]
    current = json.loads(schema.read_text(encoding="utf-8"))
    if "settings" in values:
        current["properties"]["settings"] = platform_settings()
    return {
        schema: json.dumps(described(current, texts), indent=2) + "\n",
        readme: head + MARK + "\n" + table(texts, values),
    }


def platform_settings() -> dict[str, Any]:
    """Returns the schema of the platform's settings, without what the chart sets, and secrets."""
    whole = Settings.model_json_schema()
    definitions = whole["$defs"]
    resources = {"type": "object", "additionalProperties": {"type": "object"}}
    found: dict[str, Any] = {"step_resources": resources}
    for name, rules in whole["properties"].items():
        if (name,) in HIDDEN or name in SET_BY_THE_CHART or name in found:
            continue
        if "$ref" in rules:
            group = definitions[rules["$ref"].rpartition("/")[2]]["properties"]
            parts = {
                part: _plain(inner) for part, inner in group.items() if (name, part) not in HIDDEN
            }
            found[name] = {"type": "object", "additionalProperties": False, "properties": parts}
        else:
            found[name] = _plain(rules)
    return {"type": "object", "additionalProperties": False, "properties": found}


def _plain(rules: dict[str, Any]) -> dict[str, Any]:
    """Returns rules without titles and defaults, and without null: a value is set or absent."""
    if "anyOf" in rules:
        [rules] = [choice for choice in rules["anyOf"] if choice.get("type") != "null"]
    return {name: rule for name, rule in rules.items() if name not in ("default", "title")}


def _is_map(value: dict[str, Any]) -> bool:
    # Labels and quantities, which the values file writes on one line, are one value.
    return any("/" in name or "-" in name for name in value) or value.keys() <= {"cpu", "memory"}


if __name__ == "__main__":
    for chart in CHARTS:
        for path, content in outputs(chart).items():
            path.write_text(content, encoding="utf-8")
