"""Command that ships the prediction log of a pod, as a sidecar that outlives the service.

Its settings are environment variables, see `prediction_log_shipper.settings`; credentials are the
variables that s3fs and gcsfs read. After SIGTERM it waits until the service has ended, ships the
rest and exits: 0 if nothing is left, else 1.
"""

import os
import signal
import sys
import traceback

from bento_fetcher.settings import redacted

from prediction_log_shipper.report import log
from prediction_log_shipper.settings import SettingsError, load_settings
from prediction_log_shipper.shipper import Shipper
from prediction_log_shipper.store import Store


def main() -> int:
    """Runs the command; returns its exit code."""
    try:
        settings = load_settings(os.environ)
    except SettingsError as error:
        log("ERROR", str(error))
        return 1
    try:
        shipper = Shipper(settings, Store(settings.url))
        # The first process of a container ignores SIGTERM unless it has a handler.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: shipper.stop())
        return shipper.run()
    except Exception:  # noqa: BLE001 - an internal error, shown without secrets of a URL
        log("ERROR", "internal error", error=redacted(traceback.format_exc()))
        return 1


if __name__ == "__main__":
    # Not `sys.exit`: a thread of a store's library may hang.
    code = main()
    sys.stderr.flush()
    os._exit(code)
