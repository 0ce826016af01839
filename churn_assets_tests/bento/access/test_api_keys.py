import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from math import inf, nextafter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from churn_service.access.api_keys import (
    Key,
    KeyFileError,
    KeyRing,
    Role,
    main,
    new_key,
    read_keys,
    write_keys,
)
from click.testing import CliRunner, Result
from hypothesis import example, given, settings
from hypothesis import strategies as st

from churn_assets_tests.bento.key_files import mount_keys, replace_keys

BENTO = Path(__file__).parents[3] / "bento"
LATER = datetime(2100, 1, 1, tzinfo=UTC)
TOKEN, KEY = new_key("predict", LATER, "crm")
"""Created once, because creating a key takes longer than checking it."""

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.-]{0,31}", fullmatch=True)


def ring(folder: Path, *keys: Key, **options: Any) -> KeyRing:
    return KeyRing(replace_keys(folder, *keys), **options)


@pytest.fixture(scope="module")
def crm(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return ring(tmp_path_factory.mktemp("keys"), KEY)


# Keys


@given(name=ids, role=st.sampled_from(["predict", "admin"]))
def test_a_key_is_the_salted_hash_of_its_token(name: str, role: Role) -> None:
    token, key = new_key(role, LATER, name)
    assert re.fullmatch(rf"churn_{re.escape(name)}_[A-Za-z0-9_-]{{43}}", token)
    assert key.hash == sha256(bytes.fromhex(key.salt) + token.encode()).hexdigest()
    assert (key.id, key.role, key.expires) == (name, role, LATER)


def test_two_keys_have_nothing_in_common() -> None:
    created = [new_key("predict", LATER) for _ in range(100)]
    for column in zip(
        *((token, key.id, key.salt, key.hash) for token, key in created), strict=True
    ):
        assert len(set(column)) == len(created)


def test_the_repr_of_a_key_has_neither_hash_nor_salt() -> None:
    assert KEY.hash not in repr(KEY)
    assert KEY.salt not in repr(KEY)
    assert "crm" in repr(KEY)


@pytest.mark.parametrize("name", ["", "a_b", "-a", "a b", "ä", "x" * 33])
def test_invalid_ids_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="id"):
        new_key("predict", LATER, name)


# Identification


@given(token=st.text())
@example("churn_crm_")
@example("churn_crm")
@example("churn__")
@example(TOKEN[:-1])
@example(TOKEN + " ")
@example(TOKEN.upper())
@example(TOKEN.removeprefix("churn_"))
@example(TOKEN.replace("_crm_", "_CRM_"))
@example(KEY.hash)
@example(f"churn_crm_{KEY.hash}")
@example("\ud800")
@example("churn_crm_\x00")
def test_every_other_token_is_refused(crm: KeyRing, token: str) -> None:
    assert crm.identify(token) == (KEY if token == TOKEN else None)


@given(data=st.data())
def test_a_token_with_one_wrong_character_is_refused(crm: KeyRing, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(TOKEN) - 1))
    other = data.draw(st.characters().filter(lambda c: c != TOKEN[place]))
    assert crm.identify(TOKEN[:place] + other + TOKEN[place + 1 :]) is None


@settings(max_examples=30)
@given(names=st.lists(ids, unique=True, max_size=5))
def test_each_key_is_identified_and_not_by_the_id_of_another(names: list[str]) -> None:
    created = [new_key("admin", LATER, name) for name in names]
    with TemporaryDirectory() as folder:
        keys = ring(Path(folder), *(key for _, key in created))
    for token, key in created:
        assert keys.identify(token) == key
        secret = token.split("_", 2)[2]
        for other in {*names} - {key.id}:
            assert keys.identify(f"churn_{other}_{secret}") is None


@settings(max_examples=30)
@given(
    seconds=st.integers(1, 10**11), hours=st.integers(-14, 14), microseconds=st.sampled_from([0, 1])
)
def test_a_key_expires_exactly_at_its_time(seconds: int, hours: int, microseconds: int) -> None:
    zone = timezone(timedelta(hours=hours))
    expires = datetime.fromtimestamp(seconds, zone) + timedelta(microseconds=microseconds)
    token, key = new_key("predict", expires)
    now = [0.0]
    with TemporaryDirectory() as folder:
        keys = ring(Path(folder), key, clock=lambda: now[0])
    instant = expires.timestamp()
    before, after = nextafter(instant, 0), nextafter(instant, inf)
    for now[0], valid in ((before, True), (instant, False), (after, False)):
        assert (keys.identify(token) is not None) == valid


@pytest.mark.parametrize("year", [1, 9999])
@pytest.mark.parametrize("offset", ["+14:00", "-14:00"])
def test_any_expiry_is_valid(tmp_path: Path, year: int, offset: str) -> None:
    token, key = new_key("predict", datetime.fromisoformat(f"{year:04}-12-31T23:59:59{offset}"))
    assert (ring(tmp_path, key).identify(token) == key) == (year == 9999)


def test_a_file_without_keys_identifies_no_token(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    assert keys.identify(TOKEN) is None
    assert keys.identify("") is None


# The file


def entry(**changes: object) -> dict[str, object]:
    return {**KEY.model_dump(mode="json"), **changes}


def without(name: str) -> dict[str, object]:
    return {field: value for field, value in entry().items() if field != name}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([entry(), entry()], "keys: the ids of keys must be unique; duplicates: crm"),
        ([entry(id="a"), entry(role="root")], "keys/1/role is 'root': Input should be 'predict'"),
        ([entry(id="a_b")], "keys/0/id is 'a_b': String should match"),
        ([entry(expires="2030-01-01T00:00:00")], "keys/0/expires is '2030-01-01T00:00:00': Input"),
        ([entry(expires="soon")], "keys/0/expires is 'soon': Input should be a valid datetime"),
        ([entry(expires=4e9)], "keys/0/expires: Input should be a valid datetime"),
        ([entry(hash=KEY.hash[:-1])], "keys/0/hash: String should match pattern"),
        ([entry(salt=KEY.salt[:-2])], "keys/0/salt: String should match pattern"),
        ([without("role")], "keys/0/role: Field required"),
        ([entry(owner="me")], "keys/0/owner: Extra inputs are not permitted"),
        ([entry(token=TOKEN)], "keys/0/token: Extra inputs are not permitted"),
        ([entry(id=TOKEN)], "keys/0/id is (hidden): "),
        ([entry(role=KEY.hash)], "keys/0/role is (hidden): "),
        ([entry(**{TOKEN: 1})], "keys/0/(hidden): Extra inputs are not permitted"),
        ([TOKEN], "keys/0: Input should be an object"),
        ({}, "keys: Input should be a valid array"),
    ],
)
def test_a_faulty_file_is_reported_with_field_and_rule_but_no_secret(
    tmp_path: Path, keys: object, expected: str
) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": keys}))
    with pytest.raises(KeyFileError) as caught:
        KeyRing(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is not a valid key file:\n")
    assert expected in message
    assert not any(secret[:30] in message for secret in (TOKEN, TOKEN[-43:], KEY.hash, KEY.salt))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 10_000, b'{"keys": [], "x": 1}']
)
def test_other_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match="is not a valid key file"):
        KeyRing(path)


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [entry(role="root"), without("expires")]}))
    with pytest.raises(KeyFileError) as caught:
        KeyRing(path)
    assert "keys/0/role" in str(caught.value)
    assert "keys/1/expires" in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"none\.json cannot be read: No such file"):
        KeyRing(tmp_path / "none.json")


def test_a_written_file_is_read_back_and_belongs_to_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = tuple(new_key("admin", LATER)[1] for _ in range(3))
    write_keys(path, keys)
    assert read_keys(path) == keys
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


# Changes of the file


@contextmanager
def identified_in_a_thread(keys: KeyRing, tokens: Sequence[str]) -> Iterator[list[str | None]]:
    """Identifies the tokens in a thread during the block; yields the list of ids it finds."""
    found: list[str | None] = []
    over, begun = threading.Event(), threading.Event()

    def identify() -> None:
        while not over.is_set():
            for token in tokens:
                key = keys.identify(token)
                found.append(key and key.id)
            begun.set()

    thread = threading.Thread(target=identify)
    thread.start()
    begun.wait(10)
    try:
        yield found
    finally:
        over.set()
        thread.join(10)


@pytest.mark.parametrize("store", [replace_keys, mount_keys], ids=["replaced", "mounted"])
def test_a_key_in_every_version_is_never_refused_while_the_file_changes(
    tmp_path: Path, store: Callable[..., Path]
) -> None:
    (old, old_key), (new, new_key_) = new_key("predict", LATER), new_key("predict", LATER)
    third, third_key = new_key("admin", LATER)
    keys = KeyRing(store(tmp_path, old_key, new_key_), every=0)
    with identified_in_a_thread(keys, (old, new)) as found:
        for _ in range(60):
            store(tmp_path, third_key, new_key_, old_key)
            assert keys.identify(third) == third_key
            store(tmp_path, old_key, new_key_)
            assert keys.identify(third) is None
    assert len(found) > 100
    assert set(found) == {old_key.id, new_key_.id}
    store(tmp_path, new_key_)
    assert keys.identify(old) is None
    assert keys.identify(new) == new_key_


def test_a_change_of_content_with_the_same_size_and_time_is_seen(tmp_path: Path) -> None:
    first, first_key = new_key("predict", LATER, "same")
    second, second_key = new_key("predict", LATER, "same")
    keys = ring(tmp_path, first_key, every=0)
    path = tmp_path / "keys.json"
    before = path.stat()
    path.write_text(path.read_text().replace(first_key.salt, second_key.salt))
    path.write_text(path.read_text().replace(first_key.hash, second_key.hash))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_ino) == (before.st_size, before.st_ino)
    assert keys.identify(first) is None
    assert keys.identify(second) == second_key


def test_the_file_is_checked_only_after_the_interval(tmp_path: Path) -> None:
    keys = ring(tmp_path, KEY, every=3600)
    write_keys(tmp_path / "keys.json", ())
    assert keys.identify(TOKEN) == KEY


def damages() -> dict[str, Callable[[Path], object]]:
    return {
        "gone": lambda path: path.unlink(),
        "empty": lambda path: path.write_text(""),
        "half": lambda path: path.write_bytes(path.read_bytes()[:-20]),
        "no keys": lambda path: path.write_text("{}"),
        "a folder": lambda path: (path.unlink(), path.mkdir()),
    }


@pytest.mark.parametrize("damage", damages().values(), ids=damages())
def test_a_damaged_file_keeps_the_previous_keys_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object]
) -> None:
    caplog.set_level(logging.INFO, "churn.service")
    keys, path = ring(tmp_path, KEY, every=0), tmp_path / "keys.json"
    damage(path)
    assert [keys.identify(TOKEN) for _ in range(5)] == [KEY] * 5
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert str(path) in caplog.text
    assert caplog.text.count("the previous keys stay valid") == 1
    assert KEY.hash not in caplog.text


def test_a_repaired_file_is_read_and_each_new_damage_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "churn.service")
    keys, path = ring(tmp_path, KEY, every=0), tmp_path / "keys.json"
    other, other_key = new_key("admin", LATER)
    for text in ("{", "[", None):
        path.unlink() if text is None else path.write_text(text)
        assert keys.identify(TOKEN) == KEY
    write_keys(path, (other_key,))
    assert keys.identify(TOKEN) is None
    assert keys.identify(other) == other_key
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3 + ["INFO"]


# The command


def run(*arguments: object) -> Result:
    """Runs the command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_adds_a_key_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    command = ["new", "--role", "admin", "--days", "90", "--id", "crm", "--file", str(path)]
    done = subprocess.run(
        [sys.executable, "-m", "churn_service.access.api_keys", *command],
        cwd=BENTO, capture_output=True, text=True, check=True,
    )  # fmt: skip
    token = done.stdout.removesuffix("\n")
    key = KeyRing(path).identify(token)
    assert key is not None
    assert (key.id, key.role) == ("crm", "admin")
    assert timedelta(days=89.9) < key.expires - datetime.now(UTC) <= timedelta(days=90)
    assert "key crm, admin, until" in done.stderr
    assert token not in done.stderr + path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_without_a_file_the_command_prints_the_entry(tmp_path: Path) -> None:
    token, stored = run("new", "--role", "predict", "--days", 1).stdout.splitlines()
    path = tmp_path / "keys.json"
    path.write_text(f'{{"keys": [{stored}]}}')
    assert KeyRing(path).identify(token) is not None


def test_keys_are_added_listed_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, (new_key("admin", datetime(2020, 1, 1, tzinfo=UTC), "old")[1],))
    token = run("new", "--role", "predict", "--days", 1, "--id", "b", "--file", path).stdout
    listed = run("list", "--file", path).stdout
    assert [line.split()[:2] for line in listed.splitlines()] == [
        ["old", "admin"],
        ["b", "predict"],
    ]
    assert [line.endswith("expired") for line in listed.splitlines()] == [True, False]
    assert not any(key.hash in listed or key.salt in listed for key in read_keys(path))
    assert run("remove", "old", "--file", path).exit_code == 0
    assert [key.id for key in read_keys(path)] == ["b"]
    assert KeyRing(path).identify(token.strip()) is not None


def test_a_symbolic_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "keys.json"
    link.symlink_to(real)
    assert run("new", "--role", "predict", "--days", 1, "--file", link).exit_code == 0
    assert link.is_symlink()
    assert len(read_keys(real)) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["new", "--role", "root", "--days", 1], "'root' is not one of 'predict', 'admin'"),
        (["new", "--role", "admin", "--days", 0], "0 is not in the range"),
        (["new", "--role", "admin", "--days", 3651], "3651 is not in the range"),
        (["new", "--role", "admin", "--days", 1, "--id", "a_b"], "Invalid value for --id"),
        (["new", "--role", "admin", "--days", 1, "--id", "crm"], "already has a key crm"),
        (["remove", "web"], "has no key web"),
    ],
)
def test_an_invalid_command_is_refused_and_leaves_the_file_unchanged(
    tmp_path: Path, arguments: list[object], expected: str
) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, (KEY,))
    done = run(*arguments, "--file", path)
    assert done.exit_code != 0
    assert expected in done.output
    assert read_keys(path) == (KEY,)


@pytest.mark.parametrize("arguments", [["list"], ["remove", "crm"]])
def test_a_missing_file_is_reported_by_the_command(tmp_path: Path, arguments: list[object]) -> None:
    done = run(*arguments, "--file", tmp_path / "none.json")
    assert (done.exit_code, "none.json cannot be read" in done.output) == (1, True)


def test_a_broken_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("{")
    done = run("new", "--role", "admin", "--days", 1, "--file", path)
    assert (done.exit_code, path.read_text()) == (1, "{")


def test_an_existing_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    _, key = new_key("predict", datetime.now(UTC) + timedelta(days=1))
    write_keys(path, (key,))
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    write_keys(path, ())
    assert path.stat().st_mode & 0o777 == 0o640
