"""Delivery of messages: to a webhook that accepts Slack's JSON, by mail, or to the log.

No secret is ever shown: neither a log line, nor an error, nor its cause contains the webhook's URL
or the password of the mail server.
"""

import logging
import smtplib
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Protocol

import httpx
from pydantic import SecretStr
from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
)

from churn_assets.core.monitoring.incidents import Message
from churn_assets.core.monitoring.messages import headline, plain_text, slack_json
from churn_assets.settings import Alerts

TIMEOUT = 5.0
"""Seconds until a request to a server times out."""
CHANNEL_SECONDS = 20.0
"""Seconds for all messages to one channel: two channels must fit into a sensor's minute."""
RETRYABLE_STATUSES = {408, 425, 429}


class DeliveryError(RuntimeError):
    """A message was not accepted by a channel.

    Attributes:
        transient: Whether a retry may help.
    """

    def __init__(self, text: str, *, transient: bool = True) -> None:
        super().__init__(text)
        self.transient = transient


class Channel(Protocol):
    """A channel that delivers messages to people."""

    @property
    def name(self) -> str:
        """Name of the channel, in errors and in receipts."""
        ...

    def send(self, message: Message) -> None:
        """Sends one message, once.

        Raises:
            DeliveryError: The message was not accepted.
        """
        ...


@dataclass(frozen=True)
class Webhook:
    """An incoming webhook of Slack, or of anything that accepts the same JSON."""

    url: SecretStr
    name: str = "webhook"

    def send(self, message: Message) -> None:
        url = self.url.get_secret_value()
        try:
            with _without_request_log(url):
                status = httpx.post(url, json=slack_json(message), timeout=TIMEOUT).status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # The texts of the error and of its cause may contain the URL.
            raise DeliveryError(f"the webhook was not reached: {type(error).__name__}") from None
        if not 200 <= status < 300:
            transient = status >= 500 or status in RETRYABLE_STATUSES
            raise DeliveryError(f"the webhook responded with {status}", transient=transient)


@dataclass(frozen=True)
class Mail:
    """A mail server.

    Attributes:
        settings: Settings with at least the host and the receivers.
    """

    settings: Alerts
    name: str = "mail"

    def send(self, message: Message) -> None:
        where = f"{self.settings.smtp_host}:{self.settings.smtp_port}"
        try:
            with self._server() as server:
                server.send_message(self._mail(message))
        except (OSError, ValueError) as error:  # smtplib's errors are OSErrors
            code = getattr(error, "smtp_code", None)
            text = f"mail by {where} was not accepted: {type(error).__name__}"
            raise DeliveryError(
                f"{text} {code}" if code else text, transient=not _is_permanent(error)
            ) from None

    @contextmanager
    def _server(self) -> Iterator[smtplib.SMTP]:
        settings, host = self.settings, self.settings.smtp_host or ""
        secure = ssl.create_default_context
        if settings.smtp_security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                host, settings.smtp_port, timeout=TIMEOUT, context=secure()
            )
        else:
            server = smtplib.SMTP(host, settings.smtp_port, timeout=TIMEOUT)
        with closing(server):
            if settings.smtp_security == "starttls":
                server.starttls(context=secure())
            if settings.smtp_user and settings.smtp_password:
                server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
            yield server
            with suppress(smtplib.SMTPException):
                server.quit()  # the mail is accepted already, whatever the server replies here

    def _mail(self, message: Message) -> EmailMessage:
        receivers = self.settings.mail_to or ""
        mail = EmailMessage()
        mail["Subject"] = headline(message)
        mail["From"] = self.settings.mail_from or self.settings.smtp_user or receivers.split(",")[0]
        mail["To"] = receivers
        mail["Date"] = formatdate()
        mail["Message-ID"] = make_msgid(domain="churn-assets.invalid")
        mail.set_content(plain_text(message))
        return mail


@dataclass(frozen=True)
class Log:
    """The log, where no other channel is set."""

    log: Callable[[str], None]
    name: str = "log"

    def send(self, message: Message) -> None:
        self.log(plain_text(message))


def channels(alerts: Alerts, log: Callable[[str], None]) -> list[Channel]:
    """The configured channels; the log where none is configured."""
    found: list[Channel] = []
    if alerts.webhook and alerts.webhook.get_secret_value():
        found.append(Webhook(alerts.webhook))
    if alerts.smtp_host:
        found.append(Mail(alerts))
    return found or [Log(log)]


def deliver(
    messages: Sequence[Message],
    channels: Sequence[Channel],
    delivered: Collection[str],
    keep: Callable[[Sequence[str]], None],
    *,
    retries: int,
    seconds: float = CHANNEL_SECONDS,
) -> list[str]:
    """Sends every message through every channel that has not accepted it yet.

    Args:
        delivered: Receipts of earlier deliveries.
        keep: Called with all receipts of these messages after each delivery, so that the message
            is not sent again after the process died.
        retries: Number of retries of a message that was not accepted.
        seconds: Time for each channel; messages that do not fit wait for the next tick.

    Returns:
        Errors, as texts without secrets.
    """
    wanted = {f"{message.id}@{channel.name}" for channel in channels for message in messages}
    receipts, faults = sorted(wanted.intersection(delivered)), []
    for channel in channels:
        deadline, left = time.monotonic() + seconds, 0
        for message in messages:
            receipt = f"{message.id}@{channel.name}"
            if receipt in receipts:
                continue
            if (remaining := deadline - time.monotonic()) <= 0:
                left += 1
                continue
            try:
                _retrying(retries, remaining)(channel.send, message)
                receipts.append(receipt)
                keep(receipts)
            except DeliveryError as error:
                faults.append(f"{headline(message)}: {error}")
        if left:
            faults.append(
                f"{left} message(s) through {channel.name} wait for the next tick: out of time"
            )
    return faults


def _is_permanent(error: Exception) -> bool:
    """Whether the server would also refuse the message next time."""
    refused = (smtplib.SMTPRecipientsRefused, smtplib.SMTPAuthenticationError, ValueError)
    return isinstance(error, refused) or getattr(error, "smtp_code", 0) >= 500


def _retrying(retries: int, seconds: float) -> Retrying:
    return Retrying(
        stop=stop_after_attempt(retries + 1) | stop_after_delay(seconds),
        wait=wait_exponential(multiplier=0.25, max=4),
        retry=retry_if_exception(lambda error: getattr(error, "transient", False)),
        reraise=True,
    )


@contextmanager
def _without_request_log(url: str) -> Iterator[None]:
    """Removes httpx's log line about a request, which contains the URL."""
    secret = httpx.URL(url)

    def without_secret(record: logging.LogRecord) -> bool:
        return not isinstance(record.args, tuple) or secret not in record.args

    log = logging.getLogger("httpx")
    log.addFilter(without_secret)
    try:
        yield
    finally:
        log.removeFilter(without_secret)
