"""Delivery of messages to real local servers: retries, receipts, and no leaked secrets."""

import logging
import socket
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from churn_assets.adapters.alerts import DeliveryError, Log, Mail, Webhook, channels, deliver
from churn_assets.settings import Alerts
from churn_assets_tests.adapters.receivers import (
    SECRET,
    Received,
    mail_server,
    self_signed,
    webhook,
)
from churn_assets_tests.core.monitoring.sample_messages import message


@pytest.fixture
def hook() -> Iterator[Received]:
    with webhook() as received:
        yield received


def sent(
    settings: Alerts, *titles: str, delivered: Any = (), **more: Any
) -> tuple[list[str], list[str]]:
    """Sends messages with these titles, and returns receipts and errors."""
    messages = [message(id=title, title=title) for title in titles or ("one",)]
    found, kept = channels(settings, lambda _: None), [list(delivered)]
    keep = more.pop("keep", lambda receipts: kept.append(list(receipts)))
    faults = deliver(messages, found, delivered, keep, retries=settings.retries, **more)
    return kept[-1], faults


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def to(received: Received, **more: Any) -> Alerts:
    return Alerts(webhook=SecretStr(received.url), **more)


def by_mail(received: Received, **more: Any) -> Alerts:
    return Alerts(
        **{
            "smtp_host": "127.0.0.1",
            "smtp_port": received.port,
            "smtp_security": "none",
            "smtp_user": "churn",
            "smtp_password": SecretStr(SECRET),
            "mail_from": "churn@example.org",
            "mail_to": "a@example.org, b@example.org",
            **more,
        }
    )


def test_a_webhook_that_fails_twice_gets_the_message_once(hook: Received) -> None:
    hook.responses += [500, 503]
    receipts, faults = sent(to(hook, retries=2))
    assert (receipts, faults) == (["one@webhook"], [])
    assert (hook.requests, hook.headlines) == (3, ["ALERT: one"])


def test_a_failed_message_is_reported_and_the_next_is_sent(hook: Received) -> None:
    hook.responses += [500, 500]
    receipts, faults = sent(to(hook, retries=1), "one", "two")
    assert receipts == ["two@webhook"]
    assert faults == ["ALERT: one: the webhook responded with 500"]


@pytest.mark.parametrize(("code", "requests"), [(400, 1), (404, 1), (302, 1), (408, 2), (429, 2)])
def test_only_transient_errors_are_retried(hook: Received, code: int, requests: int) -> None:
    hook.responses += [code] * 2
    assert sent(to(hook, retries=1))[1] == [f"ALERT: one: the webhook responded with {code}"]
    assert hook.requests == requests


def test_a_message_is_not_sent_again_through_a_channel_that_accepted_it(hook: Received) -> None:
    with mail_server(451) as post:
        both = by_mail(post, webhook=SecretStr(hook.url), retries=0)
        receipts, faults = sent(both)
        assert receipts == ["one@webhook"]
        assert len(faults) == 1
        receipts, faults = sent(both, delivered=receipts)
    assert (sorted(receipts), faults) == (["one@mail", "one@webhook"], [])
    assert (len(hook.accepted), len(post.accepted)) == (1, 1)


def test_a_crashed_process_does_not_send_delivered_messages_again(hook: Received) -> None:
    kept: list[str] = []

    def keep(receipts: Sequence[str]) -> None:
        kept[:] = receipts
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sent(to(hook), "one", "two", keep=keep)
    assert sent(to(hook), "one", "two", delivered=[*kept, "sent long ago@webhook"]) == (
        ["one@webhook", "two@webhook"], []
    )  # fmt: skip
    assert hook.headlines == ["ALERT: one", "ALERT: two"]


def test_messages_out_of_time_wait_for_the_next_tick(hook: Received) -> None:
    receipts, faults = sent(to(hook), "one", "two", seconds=0)
    assert (receipts, faults) == (
        [],
        ["2 message(s) through webhook wait for the next tick: out of time"],
    )
    assert hook.requests == 0


def test_a_mail_has_all_headers_and_numbers() -> None:
    with mail_server() as post:
        assert sent(by_mail(post)) == (["one@mail"], [])
    (mail,) = post.accepted
    for line in ("Subject: ALERT: one", "From: churn@example.org", "roc_auc: 0.6123",
                 "To: a@example.org, b@example.org", "Message-ID: <"):  # fmt: skip
        assert line in mail


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_mail_is_sent_over_tls_to_a_trusted_server_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, security: str
) -> None:
    certificate = self_signed(tmp_path)
    with mail_server(certificate=certificate, wrapped=security == "tls") as post:
        settings = by_mail(post, smtp_security=security, retries=0)
        receipts, (fault,) = sent(settings)
        assert receipts == []
        assert fault.endswith("was not accepted: SSLCertVerificationError")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert sent(settings) == (["one@mail"], [])
        assert (post.tls_connections, len(post.accepted)) == (1, 1)


def test_a_server_without_tls_gets_no_password() -> None:
    with mail_server() as post:
        _, (fault,) = sent(by_mail(post, smtp_security="starttls", retries=0))
    assert fault.endswith("was not accepted: SMTPNotSupportedError")
    assert post.accepted == []


def test_without_a_channel_messages_go_to_the_log() -> None:
    lines: list[str] = []
    (channel,) = channels(Alerts(), lines.append)
    channel.send(message(title="one"))
    assert isinstance(channel, Log)
    assert lines[0].startswith("ALERT: one\nROC AUC 0.61")


def failing_channels(port: int) -> list[Webhook | Mail]:
    closed = closed_port()
    password = by_mail(Received(port=port), smtp_password=SecretStr(SECRET + "-wrong"))
    urls = (
        f"http://127.0.0.1:{closed}/{SECRET}", f"http://x:{SECRET}@127.0.0.1:{closed}/",
        f"http://127.0.0.1:{SECRET}/", f"gopher://{SECRET}", SECRET,
        f"http://127.0.0.1:{port}/{SECRET}",
    )  # fmt: skip
    not_ascii = password.model_copy(update={"smtp_password": SecretStr(SECRET + "ä")})
    return [*(Webhook(SecretStr(url)) for url in urls), Mail(password), Mail(not_ascii)]


def test_no_error_shows_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with mail_server() as post:
        for channel in failing_channels(post.port):
            with pytest.raises(DeliveryError) as caught:
                channel.send(message())
            assert SECRET.lower() not in "".join(traceback.format_exception(caught.value)).lower()
            assert SECRET not in repr(channel)
    assert SECRET.lower() not in caplog.text.lower()


def test_a_delivery_logs_no_secret(hook: Received, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert sent(to(hook))[1] == []
    assert SECRET not in caplog.text
