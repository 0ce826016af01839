"""API keys: who may ask the service, kept in one file as salted hashes.

A key's hash is SHA-256 over its salt and its token, and not a slow password hash: the secret in a
token is 256 random bits, which nobody can try through, however quick the hash is; a slow one would
only take its milliseconds from every request.

`python -m churn_service.access.api_keys new|list|remove` keeps the file.
"""

import logging
import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Annotated, Literal, NamedTuple, get_args

import click
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

Role = Literal["predict", "admin"]
"""An admin may do all that predict may."""

SECRET_BYTES = 32
SALT_BYTES = 16
SHOWN = 40
"""Characters of a faulty value that a message repeats: fewer than a secret or a hash has."""

LOG = logging.getLogger("churn.service")


class KeyFileError(ValueError):
    """A file of keys that cannot be used; the message never repeats a hash or a token."""


class Key(BaseModel):
    """What the service knows of a key; its token it does not know.

    Attributes:
        id: what logs call it. Without `_`, which parts a token, and too short for a secret.
        salt: hex, of this key alone.
        hash: hex, SHA-256 of salt and token.
        expires: from this instant on the key is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,31}$")
    role: Role
    salt: str = Field(pattern=r"^([0-9a-f]{2}){16,64}$", repr=False)
    hash: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    expires: AwareDatetime


def _all_different(keys: tuple[Key, ...]) -> tuple[Key, ...]:
    ids = [key.id for key in keys]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise ValueError(f"every key needs an id of its own: {', '.join(twice)}")
    return keys


class KeyFile(BaseModel):
    """The file: `{"keys": [{"id": ..., "role": ..., ...}, ...]}`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    keys: Annotated[tuple[Key, ...], AfterValidator(_all_different)]


def new_key(role: Role, expires: datetime, id: str | None = None) -> tuple[str, Key]:  # noqa: A002
    """Makes a key.

    Args:
        role: what it may do.
        expires: with a time zone.
        id: random where it is not given.

    Returns:
        The token, `churn_<id>_<secret>`, which is to be had only now, and the key to store.

    Raises:
        ValueError: `id` or `expires` is not as a key has it.
    """
    name = secrets.token_hex(4) if id is None else id
    token = f"churn_{name}_{secrets.token_urlsafe(SECRET_BYTES)}"
    salt = secrets.token_bytes(SALT_BYTES)
    digest = sha256(salt + token.encode()).hexdigest()
    return token, Key(id=name, role=role, salt=salt.hex(), hash=digest, expires=expires)


class _Known(NamedTuple):
    key: Key
    salt: bytes
    digest: bytes
    expires: float

    @classmethod
    def of(cls, key: Key) -> "_Known":
        salt, digest = bytes.fromhex(key.salt), bytes.fromhex(key.hash)
        return cls(key, salt, digest, key.expires.timestamp())


class KeyRing:
    """The keys of a file, which is read again when it changes.

    A change is one of content, whether the file is written, replaced, or reached through a
    symbolic link that now leads elsewhere, as Kubernetes changes a mounted secret. A file that is
    broken or gone leaves the keys as they are.
    """

    def __init__(
        self, path: Path, *, every: float = 1.0, clock: Callable[[], float] = time.time
    ) -> None:
        """Reads the file.

        Args:
            path: of the file.
            every: seconds after which the file is looked at again.
            clock: Unix seconds, what expiry is held against.

        Raises:
            KeyFileError: the file is not there, or not as it must be.
        """
        self._path, self._every, self._clock = path, every, clock
        # An unknown id is compared with a key nobody has, so that it takes as long as a known one.
        self._nobody = _Known.of(new_key("predict", datetime.now(UTC))[1])
        self._looking = Lock()
        content = _content(path)
        self._seen: bytes | None = content
        self._known = _known(path, content)
        self._look_at = time.monotonic() + every

    def identify(self, token: str) -> Key | None:
        """The key that a token belongs to; None where there is none, or it has expired."""
        if time.monotonic() >= self._look_at:
            with self._looking:
                self._look()
        name = token[6 : token.find("_", 6)]  # after "churn_", which the hash covers
        key, salt, digest, expires = self._known.get(name, self._nobody)
        given = sha256(salt + token.encode("utf-8", "surrogatepass")).digest()
        return key if compare_digest(given, digest) and self._clock() < expires else None

    def _look(self) -> None:
        self._look_at = time.monotonic() + self._every
        before, self._seen = self._seen, None
        try:
            self._seen = content = _content(self._path)
            if content != before:
                self._known = _known(self._path, content)
                LOG.info("%s has changed and holds %d keys", self._path, len(self._known))
        except KeyFileError as error:
            if self._seen != before:
                LOG.error("%s; the keys stay as they were", error)  # noqa: TRY400


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys of a file.

    Raises:
        KeyFileError: the file is not there, or not as it must be.
    """
    return _parsed(path, _content(path))


def write_keys(path: Path, keys: tuple[Key, ...]) -> None:
    """Writes a file of keys at once; one process at a time.

    A new file is for the owner's eyes only. One that is there keeps its owner and mode: a service
    that could no longer read it would go on with the keys it had, removed ones among them.
    """
    target = path.resolve()
    before = target.stat() if target.exists() else None
    with TemporaryDirectory(prefix=".keys-", dir=target.parent) as scratch:
        new = Path(scratch, target.name)
        new.touch(mode=0o600)
        with new.open("w", encoding="utf-8") as file:
            file.write(KeyFile(keys=keys).model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if before is not None:
            os.chown(new, before.st_uid, before.st_gid)
            new.chmod(before.st_mode & 0o777)
        os.replace(new, target)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error


def _known(path: Path, content: bytes) -> dict[str, _Known]:
    return {key.id: _Known.of(key) for key in _parsed(path, content)}


def _parsed(path: Path, content: bytes) -> tuple[Key, ...]:
    try:
        return KeyFile.model_validate_json(content).keys
    except ValidationError as error:
        faults = "\n".join(f"  - {_fault(details)}" for details in error.errors())
        raise KeyFileError(f"{path} is no file of keys:\n{faults}") from error


def _fault(details: ErrorDetails) -> str:
    said, given = details["msg"].removeprefix("Value error, "), details["input"]
    place = "/".join(_short(str(part)) for part in details["loc"]) or "the file"
    if details["loc"][-1:] in {("id",), ("role",), ("expires",)} and isinstance(given, str):
        return f"{place} is {_short(repr(given))}: {said}"
    return f"{place}: {said}"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else "(hidden)"


@click.group()
def main() -> None:
    """Keeps the file of API keys that CHURN_API_KEYS_FILE names."""


@main.command()
@click.option("--role", type=click.Choice(get_args(Role)), required=True)
@click.option("--days", type=click.IntRange(1, 3650), required=True, help="until it expires")
@click.option("--id", "name", help="what logs call the key; random where it is not given")
@click.option("--file", "path", type=click.Path(path_type=Path), help="adds the key to this file")
def new(role: Role, days: int, name: str | None, path: Path | None) -> None:
    """Makes a key and shows its token, this once; without --file also the entry to store."""
    expires = (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)
    try:
        token, key = new_key(role, expires, name)
    except ValidationError as error:
        raise click.BadParameter(error.errors()[0]["msg"], param_hint="--id") from error
    if path is None:
        click.echo(f"{token}\n{key.model_dump_json()}")
        return
    keys = _stored(path) if path.exists() else ()
    if key.id in {other.id for other in keys}:
        raise click.ClickException(f"{path} has a key {key.id} already")
    write_keys(path, (*keys, key))
    click.echo(token)
    click.echo(f"{path}: key {key.id}, {role}, until {expires.isoformat()}", err=True)


@main.command("list")
@click.option("--file", "path", type=click.Path(path_type=Path), required=True)
def show(path: Path) -> None:
    """Shows id, role and expiry of every key."""
    now = datetime.now(UTC)
    for key in _stored(path):
        expired = "" if now < key.expires else "  expired"
        click.echo(f"{key.id:<32}  {key.role:<7}  {key.expires.isoformat()}{expired}")


@main.command()
@click.argument("name", metavar="ID")
@click.option("--file", "path", type=click.Path(path_type=Path), required=True)
def remove(name: str, path: Path) -> None:
    """Removes a key: within a second no service that reads the file takes it any more."""
    keys = _stored(path)
    kept = tuple(key for key in keys if key.id != name)
    if kept == keys:
        raise click.ClickException(f"{path} has no key {name}")
    write_keys(path, kept)


def _stored(path: Path) -> tuple[Key, ...]:
    try:
        return read_keys(path)
    except KeyFileError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
