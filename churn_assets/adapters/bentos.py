"""Build of a model's bento; `serving` in the module of that name serves it for a trial.

BentoML is never imported in this process, which may live for weeks: it keeps global state from
one build to the next. `bento/build.py` and `bentoml serve` run as separate processes.
"""

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from upath import UPath

import churn_assets
from churn_assets.adapters.serving import BentoError, environment, serving, tail
from churn_assets.contracts.card import ModelCard
from churn_assets.contracts.contract import Contract
from churn_assets.core.modelling.golden import golden_rows
from churn_assets.core.modelling.scorer import Scorer

__all__ = ["BentoError", "BentoPartsError", "BentoStore", "BuiltBento", "serving"]

PACKAGE = Path(churn_assets.__file__).parent
SOURCE = PACKAGE.parent / "bento"
SERVED_MODULES = (
    "__init__.py",
    "contracts/__init__.py",
    "contracts/card.py",
    "contracts/contract.py",
    "contracts/pseudonym.py",
    "contracts/request.py",
    "core/__init__.py",
    "core/modelling/__init__.py",
    "core/modelling/scorer.py",
    "core/settings_errors.py",
)
"""Modules of this package that a bento contains."""

SERVICE = "churn_service"
"""The service's package, next to `service.py`."""

BUILD_TIMEOUT = 300.0


class BentoPartsError(BentoError):
    """Contract, card and scorers do not fit each other; a retry does not help."""


@dataclass(frozen=True)
class BuiltBento:
    """A bento in the store and as an archive.

    Attributes:
        tag: Name:version.
        model_tag: Exact tag of the served model.
        archive: Path or URL of the `.bento` file, for `bentoml import` or to serve elsewhere.
        size_bytes: Size of the archive.
        archive_sha256: SHA-256 of the archive, 64 hex digits.
    """

    tag: str
    model_tag: str
    archive: UPath
    size_bytes: int
    archive_sha256: str


@dataclass(frozen=True)
class BentoStore:
    """A BentoML home, the store of `bentoml list` and `bentoml serve`.

    Attributes:
        home: Folder of the store, BENTOML_HOME.
        source: Folder with `service.py` and `build.py`.
    """

    home: Path
    source: Path = SOURCE

    def build(self, **arguments: Any) -> BuiltBento:
        """Builds a bento and publishes it at once; the arguments are those of `staged`."""
        with self.staged(**arguments) as bento:
            return bento.publish()

    @contextmanager
    def staged(
        self,
        *,
        scorer: Scorer,
        fallback: Scorer,
        card: ModelCard,
        contract: Contract,
        labels: Mapping[str, str],
        export_to: Path | UPath,
    ) -> Iterator["StagedBento"]:
        """Builds the bento of a model outside the store, for a trial before it is published.

        Model and bento are tagged `name:version` by the card. The bento is not in the store before
        it is published. A bento that is not published by the end of the block is deleted.

        Args:
            scorer: Scorer of the model.
            fallback: Simpler scorer that is used where `scorer` fails.
            card: Model card; name and version are lower-case letters, digits, `_`, `-` and `.`.
            contract: Contract with its derived features bound to functions.
            labels: Labels of the bento.
            export_to: Folder that gets `<name>-<version>.bento` on publishing.

        Raises:
            BentoPartsError: A scorer or the card does not fit the contract.
            BentoError: BentoML failed; the message ends with BentoML's output.
        """
        _check(contract, card, scorer, fallback)
        self.home.mkdir(parents=True, exist_ok=True)
        # On the store's disk, so that publishing is a rename.
        with TemporaryDirectory(prefix=".staged-", dir=self.home) as scratch:
            context, model, staging = (Path(scratch, part) for part in ("context", "model", "home"))
            _write_context(context, self.source, contract)
            _write_model(model, contract, card, scorer, fallback)
            staging.mkdir()
            output = _run(
                [
                    sys.executable, str(self.source / "build.py"), f"{card.name}:{card.version}",
                    "--context", str(context), "--model", str(model),
                    "--labels", json.dumps(dict(labels)), "--export-to", str(staging),
                ],
                environment(staging),
            )  # fmt: skip
            built = json.loads(output.splitlines()[-1])
            bento = BuiltBento(**built | {"archive": UPath(built["archive"])})
            yield StagedBento(bento, staging, self, UPath(export_to))


@dataclass(frozen=True)
class StagedBento:
    """A bento that was built outside the store and can be tried.

    Attributes:
        staging: BentoML home that holds the bento until it is published.
    """

    built: BuiltBento
    staging: Path
    store: BentoStore
    export_to: UPath

    def publish(self) -> BuiltBento:
        """Moves model and bento into the store and the archive out, replacing the same tag."""
        for kind, tag in (("models", self.built.model_tag), ("bentos", self.built.tag)):
            name, version = tag.split(":")
            source, target = self.staging / kind / name, self.store.home / kind / name
            target.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(target / version, ignore_errors=True)
            for part in (version, "latest"):
                os.replace(source / part, target / part)
        self.export_to.mkdir(parents=True, exist_ok=True)
        archive = self.export_to / self.built.archive.name
        # Readers see no part of the archive.
        unfinished = archive.with_name(f".{archive.name}.{uuid.uuid4().hex}")
        unfinished.fs.put_file(str(self.built.archive), unfinished.path)
        unfinished.rename(archive)
        return replace(self.built, archive=archive)


def _check(contract: Contract, card: ModelCard, *scorers: Scorer) -> None:
    inputs = {name for scorer in scorers for name in scorer.inputs}
    if unknown := sorted(inputs - set(contract.model_inputs)):
        raise BentoPartsError(
            f"contract {contract.name!r} lacks inputs of a scorer: {', '.join(unknown)}"
        )
    if card.contract_fingerprint != contract.fingerprint:
        raise BentoPartsError(
            f"the card is for contract {card.contract_name!r} {card.contract_version} "
            f"({card.contract_fingerprint}), not for {contract.name!r} {contract.version} "
            f"({contract.fingerprint})"
        )


def _write_model(
    folder: Path, contract: Contract, card: ModelCard, scorer: Scorer, fallback: Scorer
) -> None:
    scorer.save(folder)
    fallback.save(folder / "fallback")
    golden = golden_rows(contract, scorer, fallback)
    for name, document in (("card.json", card), ("golden.json", golden)):
        (folder / name).write_text(document.model_dump_json(indent=1), encoding="utf-8")


def _write_context(folder: Path, source: Path, contract: Contract) -> None:
    for module in SERVED_MODULES:
        target = folder / PACKAGE.name / module
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACKAGE / module, target)
    shutil.copyfile(source / "service.py", folder / "service.py")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source / SERVICE, folder / SERVICE, ignore=ignore)
    texts = {
        "contract.json": contract.model_dump_json(indent=2),
        "derived.py": contract.derived_module(),
        "README.md": f"# Churn of: {contract.description}\n\n"
        f"Contract `{contract.name}` {contract.version}. `POST /predict` with one customer as JSON "
        "returns the probability of churn.\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _run(command: list[str], variables: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            command,
            check=False,
            env=variables,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise BentoError(f"the build took more than {BUILD_TIMEOUT:g} s") from error
    if done.returncode != 0:
        raise BentoError(f"the build failed:\n{tail(done.stderr or done.stdout)}")
    return done.stdout
