"""Command that builds the images, with whichever of the build tools answers.

`make images` builds those of `service.Containerfile`: the runtime without a model, the runtime with
one bento, and the fetcher. `make platform-image` builds that of `platform.Containerfile`, which
needs no bento. Beside them the command writes an SBOM (CycloneDX) of what each image has, and a
record of the images. A record has no registry's digest: an image has one only after a push.
"""

import argparse
import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from uv import find_uv_bin

ROOT = Path(__file__).resolve().parent.parent
CONTAINERS = ROOT / "containers"
TARGETS = ("runtime", "service", "fetcher")
PACKAGES = ("bento_fetcher", "prediction_log_sampler", "prediction_log_shipper")
"""Packages of the image `fetcher`."""
PLATFORM = "platform"
PLATFORM_EXTRAS = ("ibm-telco", "s3", "gcs", "azure", "postgres", "mlflow-server")
SBOM = "/opt/venv/sbom.cdx.json"
TOOLS = ("docker", "podman", "buildah")
"""Build tools, in the order in which they are tried."""


class BuildError(Exception):
    """An image cannot be built; the message says what to set."""


@dataclass(frozen=True)
class Bento:
    """A bento, and what its card says of its model.

    Attributes:
        archive: `.bento` file.
        sha256: Checksum of the file.
        model: Name of the model.
        version: Version of the model.
        contract: Name and version of the contract.
    """

    archive: Path
    sha256: str
    model: str
    version: str
    contract: str


def main() -> int:
    """Reads the command line, builds the images and writes their record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add(
        "archive",
        type=Path,
        nargs="?",
        help=".bento file, or a folder whose newest one is taken; without it: the platform's image",
    )
    add("--base-image", default="", help="slim Debian with Python 3.11 and venv")
    add("--prefix", default="churn-", help="start of the names: registry/folder/churn-")
    add("--tag", default="", help="tag of all images; else model and version, or the revision")
    add("--options", default="", help="more options of the build tool, quoted as in a shell")
    add("--dist", type=Path, default=ROOT / "dist", help="folder of the records")
    arguments = parser.parse_args()
    try:
        images = _platform(arguments) if arguments.archive is None else _service(arguments)
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"{image['name']}\n" for image in images))
    return 0


def _service(arguments: argparse.Namespace) -> list[dict[str, str]]:
    tool = find_tool()
    with build_context(newest(arguments.archive)) as (context, bento):
        images = [
            build(tool, target, context, bento if target == "service" else None, arguments)
            for target in TARGETS
        ]
    record = {"archive": bento.archive.name, "sha256": bento.sha256, "model": bento.model,
              "version": bento.version, "contract": bento.contract}  # fmt: skip
    _write_record("images.json", tool, arguments, bento=record, images=images)
    return images


def _platform(arguments: argparse.Namespace) -> list[dict[str, str]]:
    tool = find_tool()
    with platform_context() as context:
        images = [build(tool, PLATFORM, context, None, arguments)]
    _write_record("platform-image.json", tool, arguments, images=images)
    return images


def _write_record(name: str, tool: str, arguments: argparse.Namespace, **parts: object) -> None:
    base = arguments.base_image or "of the Containerfile"
    record = {"built_with": tool, "base_image": base, **parts}
    (arguments.dist / name).write_text(json.dumps(record, indent=2) + "\n")


def find_tool() -> str:
    """Returns the first build tool that is installed and works; a docker CLI may lack a daemon."""
    for tool in TOOLS:
        if shutil.which(tool) and _finished([tool, "info"]).returncode == 0:
            return tool
    raise BuildError(
        f"none of {', '.join(TOOLS)} works here: install one (buildah needs no daemon), or start "
        "the daemon of docker"
    )


def newest(path: Path) -> Path:
    """Returns the archive at a path, or the newest one in a folder."""
    archives = sorted(path.glob("*.bento"), key=lambda archive: archive.stat().st_mtime)
    if path.is_file() or archives:
        return path if path.is_file() else archives[-1]
    raise BuildError(
        f"{path} has no .bento archive: materialise churn_bento (make demo does), or set BENTO to "
        "an archive"
    )


@contextmanager
def build_context(archive: Path) -> Iterator[tuple[Path, Bento]]:
    """A folder with all that `service.Containerfile` copies, and the bento that is in it."""
    with TemporaryDirectory(prefix="churn-images-") as scratch:
        context = Path(scratch)
        try:
            with tarfile.open(archive) as members:
                # Python has filters from 3.11.4 on; Debian 12 has 3.11.2.
                members.extraction_filter = getattr(tarfile, "data_filter", None)
                members.extractall(context / "bento")  # noqa: S202 - a bento of the graph
        except (tarfile.TarError, EOFError) as error:
            raise BuildError(f"{archive} is not an archive of a bento: {error}") from error
        cards = sorted(context.glob("bento/models/*/*/card.json"))
        if len(cards) != 1:
            raise BuildError(f"{archive} has {len(cards)} models with a card.json, not one")
        card = json.loads(cards[0].read_bytes())
        ignore = shutil.ignore_patterns("__pycache__")
        for package in PACKAGES:
            shutil.copytree(CONTAINERS / package, context / package, ignore=ignore)
        shutil.copy(CONTAINERS / "install_venv.sh", context)
        (context / "fetcher-requirements.txt").write_text(_locked("--only-group", "fetcher"))
        yield (
            context,
            Bento(
                archive=archive,
                sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
                model=card["name"],
                version=card["version"],
                contract=f"{card['contract_name']}-{card['contract_version']}",
            ),
        )


@contextmanager
def platform_context() -> Iterator[Path]:
    """A folder with all that `platform.Containerfile` copies."""
    with TemporaryDirectory(prefix="churn-images-") as scratch:
        context = Path(scratch)
        ignore = shutil.ignore_patterns("__pycache__")
        for package in ("churn_assets", "bento"):
            shutil.copytree(ROOT / package, context / package, ignore=ignore)
        shutil.copy(CONTAINERS / "install_venv.sh", context)
        extras = [part for extra in PLATFORM_EXTRAS for part in ("--extra", extra)]
        requirements = _locked("--no-dev", *extras)
        (context / "platform-requirements.txt").write_text(requirements)
        yield context


def _locked(*groups: str) -> str:
    """Returns packages of the project's lock file, with hashes."""
    return _output([find_uv_bin(), "export", "--quiet", "--frozen", "--no-emit-project",
                    "--no-annotate", *groups])  # fmt: skip


def build(
    tool: str, target: str, context: Path, bento: Bento | None, arguments: argparse.Namespace
) -> dict[str, str]:
    """Builds an image, with a bento if there is one, writes its SBOM and returns its record."""
    revision = _git("rev-parse", "HEAD")
    tag = arguments.tag or (f"{bento.model}-{bento.version}" if bento else revision[:12])
    if tag in ("", "latest"):
        raise BuildError(f"the tag {tag!r} does not say what is in the image: set TAG to another")
    name = f"{arguments.prefix}{target}:{tag}"
    variables = {
        "BASE_IMAGE": arguments.base_image,
        "SOURCE": _git("remote", "get-url", "origin").rpartition("@")[2],  # without a password
        "REVISION": revision,
    }
    if bento:
        variables |= {
            "MODEL": bento.model, "MODEL_VERSION": bento.version, "CONTRACT": bento.contract,
        }  # fmt: skip
    file = PLATFORM if target == PLATFORM else "service"
    _run([
        tool, "build", "--target", target, "--tag", name,
        "--file", str(CONTAINERS / f"{file}.Containerfile"),
        *(["--layers"] if tool == "buildah" else []),
        *(f"--build-arg={key}={value}" for key, value in variables.items() if value),
        *shlex.split(arguments.options), str(context),
    ])  # fmt: skip
    arguments.dist.mkdir(parents=True, exist_ok=True)
    sbom = arguments.dist / f"{name.rpartition('/')[2].replace(':', '-')}.cdx.json"
    sbom.write_text(read_file(tool, name, SBOM))
    return {"name": name, "id": image_id(tool, name), "sbom": sbom.name}


def read_file(tool: str, image: str, path: str) -> str:
    """Returns the text of a file in an image."""
    if tool != "buildah":
        return _output([tool, "run", "--rm", "--network=none", "--entrypoint=cat", image, path])
    container = _output([tool, "from", "--pull-never", image]).strip()
    try:
        return _output([tool, "run", container, "--", "cat", path])
    finally:
        _output([tool, "rm", container])


def image_id(tool: str, image: str) -> str:
    """Returns the id that the tool gave the image."""
    if tool == "buildah":
        return _output(
            [tool, "inspect", "--type=image", "--format={{.FromImageID}}", image]
        ).strip()
    return _output([tool, "image", "inspect", "--format={{.Id}}", image]).strip()


def _git(*command: str) -> str:
    # Without git, a repository or a remote, the image just lacks the label.
    if not shutil.which("git"):
        return ""
    return _finished(["git", "-C", str(ROOT), *command]).stdout.strip()


def _run(command: list[str]) -> None:
    """Runs a command whose output is shown."""
    if status := subprocess.run(command, check=False, stdout=sys.stderr).returncode:
        raise BuildError(f"{shlex.join(command[:2])} ended with status {status}, see above")


def _output(command: list[str]) -> str:
    done = _finished(command)
    if done.returncode:
        raise BuildError(
            f"{shlex.join(command)} ended with status {done.returncode}: {done.stderr}"
        )
    return done.stdout


def _finished(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
