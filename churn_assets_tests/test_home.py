"""The files of a home, made once by however many processes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from churn_assets.home import INSTANCE, make_home
from churn_assets.settings import Settings


def test_what_exists_is_kept_except_the_instance(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path / "home",
        simulated={"scenario": "dirty", "scenario_month": "2026-02"},  # type: ignore[arg-type]
    )
    make_home(settings)
    home = tmp_path / "home"
    assert not (home / "operator.mk").exists()
    key = (home / "id.key").read_text()
    (home / "dagster" / "dagster.yaml").write_text("other")
    make_home(settings, keep_scenario=True)
    assert (home / "id.key").read_text() == key
    assert (home / "dagster" / "dagster.yaml").read_text() == INSTANCE.read_text()
    stored = (home / "operator.mk").read_text()
    assert "export CHURN_SIMULATED__SCENARIO ?= dirty\n" in stored
    assert "export CHURN_SIMULATED__SCENARIO_MONTH ?= 2026-02\n" in stored
    make_home(Settings(home=home), keep_scenario=True)
    assert (home / "operator.mk").read_text() == stored


def test_an_empty_key_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "id.key").touch()
    make_home(Settings(home=tmp_path))
    assert len((tmp_path / "id.key").read_text().strip()) == 64


def test_all_processes_get_the_same_key(tmp_path: Path) -> None:
    def key(_: int) -> str:
        make_home(Settings(home=tmp_path / "home"))
        return (tmp_path / "home" / "id.key").read_text()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(key, range(24)))) == 1
    left = {path.name for path in (tmp_path / "home").iterdir()}
    assert left == {".home.lock", "bentoml", "dagster", "id.key"}
