"""Moves MLflow's records from one database to another: `python -m churn_assets.move_mlflow`.

For a home that leaves one machine: from its sqlite file to the PostgreSQL of an MLflow server. The
artifacts are copied by whatever copies files; here only their addresses are changed.

    python -m churn_assets.move_mlflow sqlite:///$CHURN_HOME/mlflow.db \
        postgresql+psycopg2:///mlflow \
        --artifacts file://$CHURN_HOME/mlflow-artifacts mlflow-artifacts:/moved
"""

import argparse
import sys
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

VERSION = "alembic_version"


class MoveError(Exception):
    """The records cannot be moved; nothing was changed, and the message says what to do."""


def move(source: str, target: str, artifacts: tuple[str, str]) -> Mapping[str, int]:
    """Copies every row in one transaction.

    Args:
        source: Database to read, of an MLflow that is not running.
        target: Database of the same version of MLflow, which has no run yet.
        artifacts: Start of the addresses of artifacts, before and after.

    Returns:
        The number of rows by table.

    Raises:
        MoveError: The databases differ in their version, or the target has runs.
    """
    old, new = sa.create_engine(source), sa.create_engine(target)
    tables = sa.MetaData()
    tables.reflect(new)
    with old.connect() as reading, new.begin() as writing:
        _require(reading, writing)
        copied = {}
        # A new database has a default experiment and workspace, which the old one has, too.
        for table in reversed(tables.sorted_tables):
            if table.name != VERSION:
                writing.execute(table.delete())
        for table in tables.sorted_tables:
            if table.name != VERSION:
                rows = [dict(row) for row in reading.execute(sa.select(table)).mappings()]
                if rows:
                    writing.execute(table.insert(), [_moved(row, *artifacts) for row in rows])
                copied[table.name] = len(rows)
                _continue_counting(writing, table)
    return copied


def _require(reading: sa.Connection, writing: sa.Connection) -> None:
    versions = [
        sorted(one.execute(sa.text(f"SELECT version_num FROM {VERSION}")).scalars())  # noqa: S608
        for one in (reading, writing)
    ]
    if versions[0] != versions[1]:
        raise MoveError(
            f"the databases are of versions {versions[0]} and {versions[1]}: run "
            "`mlflow db upgrade` on both"
        )
    if runs := writing.execute(sa.text("SELECT count(*) FROM runs")).scalar():
        raise MoveError(f"the target has {runs} runs already: give an empty database")


def _moved(row: dict[str, Any], before: str, after: str) -> dict[str, Any]:
    return {
        name: after + value.removeprefix(before)
        if isinstance(value, str) and value.startswith(before)
        else value
        for name, value in row.items()
    }


def _continue_counting(writing: sa.Connection, table: sa.Table) -> None:
    """Lets the next row get a number that no copied row has."""
    for column in table.primary_key:
        if writing.dialect.name == "postgresql" and isinstance(column.type, sa.Integer):
            largest = sa.select(sa.func.max(column)).scalar_subquery()
            sequence = sa.func.pg_get_serial_sequence(table.name, column.name)
            writing.execute(sa.select(sa.func.setval(sequence, largest)))


def main() -> None:
    """Moves the records, and prints how many."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", help="URI of the database to read")
    parser.add_argument("target", help="URI of an empty database, after `mlflow db upgrade`")
    parser.add_argument("--artifacts", nargs=2, metavar=("BEFORE", "AFTER"), required=True)
    arguments = parser.parse_args()
    try:
        copied = move(arguments.source, arguments.target, tuple(arguments.artifacts))
    except MoveError as error:
        sys.exit(str(error))
    print("\n".join(f"{rows:>8} {table}" for table, rows in copied.items() if rows))


if __name__ == "__main__":
    main()
