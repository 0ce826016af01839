"""Command that writes a sample of a version's logged predictions to a file.

The Job of the chart's analysis runs it before the predictions are scored again. Its settings are
environment variables, see `prediction_log_sampler.settings`; credentials are the variables that
s3fs and gcsfs read.
"""

import os
import signal
import sys

from prediction_log_shipper.settings import SettingsError
from prediction_log_shipper.store import Store

from prediction_log_sampler.sampler import Sampler, TooFewError
from prediction_log_sampler.settings import load_settings


def main() -> int:
    """Runs the command; returns its exit code."""
    # The first process of a container ignores SIGTERM unless it has a handler.
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    try:
        settings = load_settings(os.environ)
        Sampler(settings, Store(settings.url)).run()
    except (SettingsError, TooFewError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    # Not `sys.exit`: a thread of a store's library may hang.
    code = main()
    sys.stderr.flush()
    os._exit(code)
