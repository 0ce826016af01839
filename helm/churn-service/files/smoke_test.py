"""Asks a running service whether it is ready; the pod of `helm test` runs this with `python -c`."""

import os
import sys
import time
from http.client import HTTPConnection, HTTPException

HOST, PORT = os.environ["CHURN_TEST_HOST"], int(os.environ["CHURN_TEST_PORT"])
TOKEN = os.environ.get("CHURN_TEST_TOKEN", "")
SECONDS = 30
"""Time for the network policy to know this pod, and for the service to be ready."""


def get(path: str, token: str = "") -> tuple[int, str]:
    """Returns status and body of a GET."""
    connection = HTTPConnection(HOST, PORT, timeout=5)
    try:
        connection.request("GET", path, headers={"X-API-Key": token} if token else {})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def wait_until_ready() -> None:
    """Waits for a 200 of /readyz, and exits with the last answer where there is none."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            status, text = get("/readyz")
        except (OSError, HTTPException) as error:
            status, text = 0, str(error)
        if status == 200:
            return
        if time.monotonic() > deadline:
            sys.exit(f"{HOST}:{PORT}/readyz: {status or 'no answer'} {text} for {SECONDS} s")
        time.sleep(1)


def expect(path: str, wanted: int, token: str = "") -> None:
    """Prints the answer of a path, and exits where its status is another."""
    status, text = get(path, token)
    sys.stdout.write(f"{path} {status} {text.strip()[:200]}\n")
    if status != wanted:
        sys.exit(f"{HOST}:{PORT}{path}: {status}, not {wanted}")


wait_until_ready()
expect("/health", 200)
expect("/model", 401)  # Without a key.
if TOKEN:
    expect("/model", 200, TOKEN)
