"""Messages reach people over real servers, are not lost, and show no secret."""

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
from churn_assets_tests.core.monitoring.test_messages import message


@pytest.fixture
def hook() -> Iterator[Received]:
    with webhook() as received:
        yield received


def sent(
    settings: Alerts, *titles: str, taken: Any = (), **more: Any
) -> tuple[list[str], list[str]]:
    """Receipts, and what went wrong."""
    messages = [message(id=title, title=title) for title in titles or ("one",)]
    ways, kept = channels(settings, lambda _: None), [list(taken)]
    keep = more.pop("keep", lambda receipts: kept.append(list(receipts)))
    faults = deliver(messages, ways, taken, keep, retries=settings.retries, **more)
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
    hook.answers += [500, 503]
    receipts, faults = sent(to(hook, retries=2))
    assert (receipts, faults) == (["one@webhook"], [])
    assert (hook.asked, hook.headlines) == (3, ["ALERT: one"])


def test_with_no_retry_left_it_says_so_and_goes_on(hook: Received) -> None:
    hook.answers += [500, 500]
    receipts, faults = sent(to(hook, retries=1), "one", "two")
    assert receipts == ["two@webhook"]
    assert faults == ["ALERT: one: the webhook answered 500"]


@pytest.mark.parametrize(("code", "asked"), [(400, 1), (404, 1), (302, 1), (408, 2), (429, 2)])
def test_what_will_not_be_taken_later_is_not_sent_again(
    hook: Received, code: int, asked: int
) -> None:
    hook.answers += [code] * 2
    assert sent(to(hook, retries=1))[1] == [f"ALERT: one: the webhook answered {code}"]
    assert hook.asked == asked


def test_what_one_way_took_is_not_sent_there_again(hook: Received) -> None:
    with mail_server(451) as post:
        both = by_mail(post, webhook=SecretStr(hook.url), retries=0)
        receipts, faults = sent(both)
        assert receipts == ["one@webhook"]
        assert len(faults) == 1
        receipts, faults = sent(both, taken=receipts)
    assert (sorted(receipts), faults) == (["one@mail", "one@webhook"], [])
    assert (len(hook.taken), len(post.taken)) == (1, 1)


def test_a_process_that_dies_does_not_send_again_what_was_taken(hook: Received) -> None:
    kept: list[str] = []

    def keep(receipts: Sequence[str]) -> None:
        kept[:] = receipts
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sent(to(hook), "one", "two", keep=keep)
    assert sent(to(hook), "one", "two", taken=[*kept, "told long ago@webhook"]) == (
        ["one@webhook", "two@webhook"], []
    )  # fmt: skip
    assert hook.headlines == ["ALERT: one", "ALERT: two"]


def test_what_takes_too_long_is_left_for_another_time(hook: Received) -> None:
    receipts, faults = sent(to(hook), "one", "two", patience=0)
    assert (receipts, faults) == ([], ["2 message(s) wait for more time on the way webhook"])
    assert hook.asked == 0


def test_a_mail_says_everything() -> None:
    with mail_server() as post:
        assert sent(by_mail(post)) == (["one@mail"], [])
    (mail,) = post.taken
    for line in ("Subject: ALERT: one", "From: churn@example.org", "roc_auc: 0.6123",
                 "To: a@example.org, b@example.org", "Message-ID: <"):  # fmt: skip
        assert line in mail


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_mail_goes_by_tls_to_a_server_that_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, security: str
) -> None:
    certificate = self_signed(tmp_path)
    with mail_server(certificate=certificate, wrapped=security == "tls") as post:
        settings = by_mail(post, smtp_security=security, retries=0)
        receipts, (fault,) = sent(settings)
        assert receipts == []
        assert fault.endswith("was not taken: SSLCertVerificationError")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert sent(settings) == (["one@mail"], [])
        assert (post.secured, len(post.taken)) == (1, 1)


def test_a_server_without_tls_gets_no_password() -> None:
    with mail_server() as post:
        _, (fault,) = sent(by_mail(post, smtp_security="starttls", retries=0))
    assert fault.endswith("was not taken: SMTPNotSupportedError")
    assert post.taken == []


def test_nothing_set_is_a_log_line() -> None:
    lines: list[str] = []
    (way,) = channels(Alerts(), lines.append)
    way.send(message(title="one"))
    assert isinstance(way, Log)
    assert lines[0].startswith("ALERT: one\nROC AUC 0.61")


def failing_ways(port: int) -> list[Webhook | Mail]:
    shut = closed_port()
    password = by_mail(Received(port=port), smtp_password=SecretStr(SECRET + "-wrong"))
    urls = (
        f"http://127.0.0.1:{shut}/{SECRET}", f"http://x:{SECRET}@127.0.0.1:{shut}/",
        f"http://127.0.0.1:{SECRET}/", f"gopher://{SECRET}", SECRET,
        f"http://127.0.0.1:{port}/{SECRET}",
    )  # fmt: skip
    strange = password.model_copy(update={"smtp_password": SecretStr(SECRET + "ä")})
    return [*(Webhook(SecretStr(url)) for url in urls), Mail(password), Mail(strange)]


def test_no_secret_is_shown_whatever_goes_wrong(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with mail_server() as post:
        for way in failing_ways(post.port):
            with pytest.raises(DeliveryError) as caught:
                way.send(message())
            assert SECRET.lower() not in "".join(traceback.format_exception(caught.value)).lower()
            assert SECRET not in repr(way)
    assert SECRET.lower() not in caplog.text.lower()


def test_no_secret_is_logged_where_all_goes_well(
    hook: Received, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert sent(to(hook))[1] == []
    assert SECRET not in caplog.text
