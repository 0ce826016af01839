"""Command line of the audit log: `python -m churn_assets.audit verify` or `list`.

The settings come from the environment. `verify` exits with 1 if an entry was altered or is missing,
and names the first such entry. A wrong setting exits with 2.
"""

import argparse
import sys

from churn_assets.adapters.audit import AuditError, AuditLog, remembered_hash
from churn_assets.adapters.sources.source import SourceError
from churn_assets.contracts.loading import ContractError
from churn_assets.defs.platform.platform import Platform
from churn_assets.settings import SettingsError, load_settings


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code, 0 for success."""
    parser = argparse.ArgumentParser(prog="churn_assets.audit", description="The audit log.")
    parser.add_argument("command", choices=("verify", "list"))
    command = parser.parse_args(arguments).command
    try:
        platform = Platform.of(load_settings())
        return (_verify if command == "verify" else _list)(platform)
    except (SettingsError, ContractError, SourceError) as error:
        print(error)
        return 2
    except AuditError as error:
        print(error)
        return 1


def _verify(platform: Platform) -> int:
    anchor = remembered_hash(platform.reports / "promoted_model.json")
    verdict = AuditLog(platform.lake).verify(anchor)
    print(verdict.description)
    return 0 if verdict.passed else 1


def _list(platform: Platform) -> int:
    for entry in AuditLog(platform.lake).entries():
        change = f"{entry.before or 'none'} -> {entry.after or 'none'}"
        print(
            f"{entry.sequence:>4}  {entry.at:%Y-%m-%d %H:%M:%S}  {entry.action:<10}  "
            f"{entry.subject}  {change}  by {entry.actor}: {entry.reason}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
