"""The UI answers only those who have a password."""

import base64
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from churn_assets.webserver import PasswordMiddleware, passwords

PASSWORD = "a:long password"


async def page(_: object) -> PlainTextResponse:
    return PlainTextResponse("the graph")


async def updates(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("an update")
    await websocket.close()


@pytest.fixture
def users(tmp_path: Path) -> Path:
    (tmp_path / "anna").write_text(f"{PASSWORD}\n")
    # As in the volume of a Secret.
    (tmp_path / "..data").mkdir()
    return tmp_path


@pytest.fixture
def client(users: Path) -> TestClient:
    app = Starlette(routes=[Route("/", page), WebSocketRoute("/graphql", updates)])
    return TestClient(PasswordMiddleware(app, users))


def basic(user: str, password: str) -> dict[str, str]:
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": b"Basic \xe4\xf6"},
        basic("anna", "another password"),
        basic("anna", ""),
        basic("bert", PASSWORD),
        basic("bert", ""),
        basic("", ""),
        basic("../anna", PASSWORD),
        {"Authorization": "Basic ???"},
        {"Authorization": "Basic"},
        {"Authorization": f"Bearer {PASSWORD}"},
    ],
)
def test_nobody_else_gets_an_answer(client: TestClient, headers: Any) -> None:
    refused = client.get("/", headers=headers)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic ")
    assert "graph" not in refused.text
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/graphql", headers=headers),
    ):
        pass


def test_a_user_gets_pages_and_updates(client: TestClient) -> None:
    headers = basic("anna", PASSWORD)
    assert client.get("/", headers=headers).text == "the graph"
    with client.websocket_connect("/graphql", headers=headers) as websocket:
        assert websocket.receive_text() == "an update"


def test_the_probes_need_no_password(client: TestClient) -> None:
    assert client.get("/healthz").text == "ok\n"


def test_passwords_rotate_without_a_restart(client: TestClient, users: Path) -> None:
    (users / "bert").write_text("another password")
    assert client.get("/", headers=basic("bert", "another password")).status_code == 200
    (users / "anna").unlink()
    assert client.get("/", headers=basic("anna", PASSWORD)).status_code == 401


def test_a_password_has_at_least_twelve_bytes(users: Path) -> None:
    (users / "bert").write_text("eleven byte")
    with pytest.raises(ValueError, match="less than 12 bytes: the password of bert"):
        passwords(users)
    (users / "bert").write_text("twelve bytes")
    assert passwords(users) == {"anna": PASSWORD.encode(), "bert": b"twelve bytes"}


def test_somebody_must_be_able_to_log_in(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no file: it needs one for each user"):
        passwords(tmp_path)
