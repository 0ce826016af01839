"""Command that saves a model, builds and exports its bento, and prints the result as JSON.

`churn_assets/adapters/bentos.py` runs this command in a process of its own, because BentoML keeps
state between builds (a second bento of the same process serves the first one's model) and reads
BENTOML_HOME only once, at import.
"""

import argparse
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

import bentoml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NEEDED = (
    "bentoml",
    "httptools",
    "limits",
    "numpy",
    "opentelemetry-exporter-otlp-proto-http",
    "pybreaker",
    "pydantic",
    "pydantic-settings",
    "uvloop",
)
"""Packages that the bento's files import, and those that make uvicorn faster."""


def main() -> None:
    """Reads the command line, builds the bento and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tag", help="name:version of the model and of the bento")
    parser.add_argument("--context", type=Path, required=True, help="folder of the bento's files")
    parser.add_argument("--model", type=Path, required=True, help="folder of the model's files")
    parser.add_argument("--labels", type=json.loads, default={}, help="JSON object of texts")
    parser.add_argument("--export-to", type=Path, required=True, help="folder of the archive")
    arguments = parser.parse_args()
    print(json.dumps(build(**vars(arguments))))


def build(
    tag: str, context: Path, model: Path, labels: Mapping[str, str], export_to: Path
) -> dict[str, object]:
    """Builds the model and the bento `tag`, which must not exist yet, in the store BENTOML_HOME."""
    wanted = bentoml.Tag.from_str(tag)
    with bentoml.models.create(wanted, labels=dict(labels)) as stored:
        shutil.copytree(model, stored.path, dirs_exist_ok=True)
    bento = bentoml.bentos.build(
        "service:Churn",
        name=wanted.name,
        version=wanted.version,
        labels=dict(labels),
        build_ctx=str(context),
        python={"packages": sorted(pinned(NEEDED)), "lock_packages": False},
        args={"model_tag": str(stored.tag)},
    )
    archive = export_to.resolve() / f"{wanted.name}-{wanted.version}.bento"
    bentoml.bentos.export_bento(bento.tag, str(archive))
    with archive.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {
        "tag": str(bento.tag),
        "model_tag": str(stored.tag),
        "archive": str(archive),
        "size_bytes": archive.stat().st_size,
        "archive_sha256": digest,
    }


def pinned(names: tuple[str, ...]) -> Iterator[str]:
    """Pins packages and all their dependencies to the versions that are installed here."""
    todo = [(canonicalize_name(name), "") for name in names]
    seen = set()
    while todo:
        name, extra = found = todo.pop()
        if found in seen:
            continue
        seen.add(found)
        for needed in map(Requirement, metadata.requires(name) or ()):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(needed.name), e) for e in ("", *needed.extras)]
    # BentoML adds its own requirement.
    packages = {name for name, _ in seen} - {"bentoml"}
    return (f"{name}=={metadata.version(name)}" for name in packages)


if __name__ == "__main__":
    main()
