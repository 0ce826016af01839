"""`python -m churn_assets.operations` prints docs/automation.md."""

import sys

from churn_assets.definitions import build
from churn_assets.defs.automation.operations import operations
from churn_assets.defs.platform.platform import Platform
from churn_assets.settings import Settings


def document() -> str:
    """What runs when and why, with every setting at its default."""
    settings = Settings()
    return operations(build(Platform.of(settings)), settings)


if __name__ == "__main__":
    sys.stdout.write(document())
