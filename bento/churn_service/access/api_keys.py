"""API keys of the service, stored in one file as salted hashes.

The hash of a key is SHA-256 over its salt and its token, and not a slow password hash: the secret
in a token is 256 random bits, which cannot be found by brute force, however fast the hash is. A
slow hash would only add milliseconds to every request.

`python -m churn_service.access.api_keys new|list|remove` edits the file.
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
"""Role of a key. An admin key may do everything that a predict key may do."""

SECRET_BYTES = 32
SALT_BYTES = 16
SHOWN = 40
"""Most characters of a faulty value that a message repeats: fewer than in a secret or a hash."""

LOG = logging.getLogger("churn.service")


class KeyFileError(ValueError):
    """An invalid key file; the message never repeats a hash or a token."""


class Key(BaseModel):
    """A stored key; the service does not know its token.

    Attributes:
        id: Name of the key in logs. Has no `_`, which separates the parts of a token, and is too
            short to hold a secret.
        salt: Salt of this key alone, in hex.
        hash: SHA-256 of salt and token, in hex.
        expires: Time from which the key is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,31}$")
    role: Role
    salt: str = Field(pattern=r"^([0-9a-f]{2}){16,64}$", repr=False)
    hash: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    expires: AwareDatetime


def _unique_ids(keys: tuple[Key, ...]) -> tuple[Key, ...]:
    ids = [key.id for key in keys]
    if duplicates := sorted({name for name in ids if ids.count(name) > 1}):
        raise ValueError(f"the ids of keys must be unique; duplicates: {', '.join(duplicates)}")
    return keys


class KeyFile(BaseModel):
    """Content of the file: `{"keys": [{"id": ..., "role": ..., ...}, ...]}`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    keys: Annotated[tuple[Key, ...], AfterValidator(_unique_ids)]


def new_key(role: Role, expires: datetime, id: str | None = None) -> tuple[str, Key]:  # noqa: A002
    """Creates a key.

    Args:
        role: Role of the key.
        expires: Time of expiry, with a time zone.
        id: Id of the key; random where None.

    Returns:
        The token, `churn_<id>_<secret>`, which cannot be recovered later, and the key to store.

    Raises:
        ValueError: `id` or `expires` is invalid.
    """
    name = secrets.token_hex(4) if id is None else id
    token = f"churn_{name}_{secrets.token_urlsafe(SECRET_BYTES)}"
    salt = secrets.token_bytes(SALT_BYTES)
    digest = sha256(salt + token.encode()).hexdigest()
    return token, Key(id=name, role=role, salt=salt.hex(), hash=digest, expires=expires)


class _ParsedKey(NamedTuple):
    """A key with its hex strings and its expiry converted once."""

    key: Key
    salt: bytes
    digest: bytes
    expires: float

    @classmethod
    def of(cls, key: Key) -> "_ParsedKey":
        salt, digest = bytes.fromhex(key.salt), bytes.fromhex(key.hash)
        return cls(key, salt, digest, key.expires.timestamp())


class KeyRing:
    """The keys of a file, which is read again when its content changes.

    It does not matter whether the file is overwritten, replaced, or reached through a symbolic link
    that has a new target, which is how Kubernetes updates a mounted secret. Where the file becomes
    invalid or is deleted, the previous keys stay valid.
    """

    def __init__(
        self, path: Path, *, every: float = 1.0, clock: Callable[[], float] = time.time
    ) -> None:
        """Reads the file.

        Args:
            path: Path of the file.
            every: Seconds between two checks of the file for changes.
            clock: Returns the Unix time that expiry is compared with.

        Raises:
            KeyFileError: The file does not exist, or is invalid.
        """
        self._path, self._every, self._clock = path, every, clock
        # An unknown id is compared with an unused key, so that it takes as long as a known id.
        self._unused = _ParsedKey.of(new_key("predict", datetime.now(UTC))[1])
        self._lock = Lock()
        content = _content(path)
        self._seen: bytes | None = content
        self._keys = _keys_by_id(path, content)
        self._next_check = time.monotonic() + every

    def identify(self, token: str) -> Key | None:
        """Returns the key of a token; None where the key is unknown or has expired."""
        if time.monotonic() >= self._next_check:
            with self._lock:
                self._check_file()
        name = token[6 : token.find("_", 6)]  # after "churn_", which the hash covers
        key, salt, digest, expires = self._keys.get(name, self._unused)
        given = sha256(salt + token.encode("utf-8", "surrogatepass")).digest()
        return key if compare_digest(given, digest) and self._clock() < expires else None

    def _check_file(self) -> None:
        self._next_check = time.monotonic() + self._every
        before, self._seen = self._seen, None
        try:
            self._seen = content = _content(self._path)
            if content != before:
                self._keys = _keys_by_id(self._path, content)
                LOG.info("%s has changed and has %d keys", self._path, len(self._keys))
        except KeyFileError as error:
            if self._seen != before:
                LOG.error("%s; the previous keys stay valid", error)  # noqa: TRY400


def read_keys(path: Path) -> tuple[Key, ...]:
    """Reads the keys of a file.

    Raises:
        KeyFileError: The file does not exist, or is invalid.
    """
    return _parsed(path, _content(path))


def write_keys(path: Path, keys: tuple[Key, ...]) -> None:
    """Writes a key file atomically. Only one process may write at a time.

    Only the owner can read a new file. An existing file keeps its owner and mode: a service that
    could no longer read the file would keep its previous keys valid, including removed ones.
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


def _keys_by_id(path: Path, content: bytes) -> dict[str, _ParsedKey]:
    return {key.id: _ParsedKey.of(key) for key in _parsed(path, content)}


def _parsed(path: Path, content: bytes) -> tuple[Key, ...]:
    try:
        return KeyFile.model_validate_json(content).keys
    except ValidationError as error:
        faults = "\n".join(f"  - {_fault(details)}" for details in error.errors())
        raise KeyFileError(f"{path} is not a valid key file:\n{faults}") from error


def _fault(details: ErrorDetails) -> str:
    rule, given = details["msg"].removeprefix("Value error, "), details["input"]
    place = "/".join(_short(str(part)) for part in details["loc"]) or "the file"
    if details["loc"][-1:] in {("id",), ("role",), ("expires",)} and isinstance(given, str):
        return f"{place} is {_short(repr(given))}: {rule}"
    return f"{place}: {rule}"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else "(hidden)"


@click.group()
def main() -> None:
    """Edits the API keys in the file that CHURN_API_KEYS_FILE names."""


@main.command()
@click.option("--role", type=click.Choice(get_args(Role)), required=True)
@click.option(
    "--days", type=click.IntRange(1, 3650), required=True, help="days until the key expires"
)
@click.option("--id", "name", help="id of the key in logs; random by default")
@click.option("--file", "path", type=click.Path(path_type=Path), help="file to add the key to")
def new(role: Role, days: int, name: str | None, path: Path | None) -> None:
    """Creates a key and prints its token once; without --file also the entry to store."""
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
        raise click.ClickException(f"{path} already has a key {key.id}")
    write_keys(path, (*keys, key))
    click.echo(token)
    click.echo(f"{path}: key {key.id}, {role}, until {expires.isoformat()}", err=True)


@main.command("list")
@click.option("--file", "path", type=click.Path(path_type=Path), required=True)
def show(path: Path) -> None:
    """Prints id, role and expiry of every key."""
    now = datetime.now(UTC)
    for key in _stored(path):
        expired = "" if now < key.expires else "  expired"
        click.echo(f"{key.id:<32}  {key.role:<7}  {key.expires.isoformat()}{expired}")


@main.command()
@click.argument("name", metavar="ID")
@click.option("--file", "path", type=click.Path(path_type=Path), required=True)
def remove(name: str, path: Path) -> None:
    """Removes a key; services that read the file refuse it within a second."""
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
