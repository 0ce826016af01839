"""Dagster's webserver behind passwords: `python -m churn_assets.webserver --passwords FOLDER`.

Dagster's webserver asks nobody who they are, and whoever reaches it can start runs and promote
models. Here each request needs a user and a password (HTTP basic authentication, RFC 7617). All
other options are those of `dagster-webserver`.
"""

import argparse
import base64
import hmac
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import dagster_webserver.app
from dagster_webserver.webserver import DagsterWebserver
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

HEALTH = "/healthz"
"""Path that needs no password, for the probes of Kubernetes."""


def passwords(folder: Path) -> Mapping[str, bytes]:
    """Returns the passwords by user: a file each, as Kubernetes mounts a Secret.

    Raises:
        ValueError: There is no user, or a password has less than 12 bytes.
    """
    files = [file for file in sorted(folder.glob("*")) if file.is_file()]
    found = {file.name: file.read_bytes().strip() for file in files}
    if not found:
        raise ValueError(f"{folder} has no file: it needs one for each user, with the password")
    if short := [name for name, password in found.items() if len(password) < 12]:
        raise ValueError(f"{folder}: less than 12 bytes: the password of {', '.join(short)}")
    return found


class PasswordMiddleware:
    """Answers 401 to whoever has no password.

    The folder is read at each request, so that a password can be added and removed without a
    restart.
    """

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self._app = app
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._known(Headers(scope=scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose(1008)(scope, receive, send)
        elif scope["path"] == HEALTH:
            await PlainTextResponse("ok\n")(scope, receive, send)
        else:
            refused = PlainTextResponse(
                "a user and a password are needed\n",
                status_code=401,
                headers={"WWW-Authenticate": 'Basic realm="churn", charset="UTF-8"'},
            )
            await refused(scope, receive, send)

    def _known(self, headers: Headers) -> bool:
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(credentials, validate=True)
        except ValueError:  # neither base64 nor ASCII
            return False
        user, _, password = given.partition(b":")
        wanted = passwords(self._folder).get(user.decode("utf-8", "replace"), b"")
        # The comparison takes as long for a wrong password as for a right one.
        equal = hmac.compare_digest(password, wanted)
        return scheme.lower() == "basic" and equal and bool(wanted)


def main() -> None:
    """Serves the UI; ends with a message if there is no usable password."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=False)
    parser.add_argument("--passwords", type=Path, required=True)
    arguments, others = parser.parse_known_args()
    try:
        passwords(arguments.passwords)
    except ValueError as error:
        sys.exit(f"--passwords: {error}")

    class GuardedWebserver(DagsterWebserver[Any, Any]):
        def build_middleware(self) -> list[Middleware]:
            return [
                Middleware(PasswordMiddleware, folder=arguments.passwords),
                *super().build_middleware(),
            ]

    # The command builds the webserver by this name, and takes no other class.
    vars(dagster_webserver.app)["DagsterWebserver"] = GuardedWebserver
    [command] = entry_points(group="console_scripts", name="dagster-webserver")
    sys.argv[1:] = others
    command.load()()


if __name__ == "__main__":
    main()
