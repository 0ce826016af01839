"""Generator of docs/automation.md, which `python -m churn_assets.operations` prints."""

import sys

from churn_assets.definitions import build
from churn_assets.defs.automation.operations import operations
from churn_assets.defs.platform.platform import Platform
from churn_assets.settings import Settings


def document() -> str:
    """Returns the document, with every setting at its default."""
    settings = Settings()
    return operations(build(Platform.of(settings)), settings)


if __name__ == "__main__":
    sys.stdout.write(document())
