"""Messages to people: to a webhook that takes Slack's JSON, by mail, or into the log.

No secret is ever shown: neither the webhook's URL nor the password of the mail server stands in a
log line or in an error, nor in the errors that these come from.
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
"""Seconds that a server may take to answer."""
PATIENCE = 20.0
"""Seconds for all messages to one channel: two channels must fit into a sensor's minute."""
AGAIN_LATER = {408, 425, 429}


class DeliveryError(RuntimeError):
    """A message that was not taken.

    Attributes:
        passing: trying again may help.
    """

    def __init__(self, said: str, *, passing: bool = True) -> None:
        super().__init__(said)
        self.passing = passing


class Channel(Protocol):
    """A way to people."""

    @property
    def name(self) -> str:
        """Of the channel, for errors and for the record of what was taken."""
        ...

    def send(self, message: Message) -> None:
        """Sends one message, once.

        Raises:
            DeliveryError: it was not taken.
        """
        ...


@dataclass(frozen=True)
class Webhook:
    """An incoming webhook of Slack, or of anything that takes the same JSON."""

    url: SecretStr
    name: str = "webhook"

    def send(self, message: Message) -> None:
        url = self.url.get_secret_value()
        try:
            with _kept_out_of_the_log(url):
                status = httpx.post(url, json=slack_json(message), timeout=TIMEOUT).status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # Its text may hold the URL; so may that of whatever it came from.
            raise DeliveryError(f"the webhook was not reached: {type(error).__name__}") from None
        if not 200 <= status < 300:
            passing = status >= 500 or status in AGAIN_LATER
            raise DeliveryError(f"the webhook answered {status}", passing=passing)


@dataclass(frozen=True)
class Mail:
    """A mail server.

    Attributes:
        settings: of which the host and the receivers are set.
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
            said = f"mail by {where} was not taken: {type(error).__name__}"
            raise DeliveryError(
                f"{said} {code}" if code else said, passing=not _for_good(error)
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
                server.quit()  # the mail is taken, whatever is said to that

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
    """The log, where nothing else is set."""

    log: Callable[[str], None]
    name: str = "log"

    def send(self, message: Message) -> None:
        self.log(plain_text(message))


def channels(alerts: Alerts, log: Callable[[str], None]) -> list[Channel]:
    """The ways to people that are set; the log where none is."""
    found: list[Channel] = []
    if alerts.webhook and alerts.webhook.get_secret_value():
        found.append(Webhook(alerts.webhook))
    if alerts.smtp_host:
        found.append(Mail(alerts))
    return found or [Log(log)]


def deliver(
    messages: Sequence[Message],
    ways: Sequence[Channel],
    taken: Collection[str],
    keep: Callable[[Sequence[str]], None],
    *,
    retries: int,
    patience: float = PATIENCE,
) -> list[str]:
    """Sends every message on every way that has not taken it yet.

    Args:
        taken: receipts of what was taken before.
        keep: is given all receipts of these messages after each one that is taken, so that
            a process that dies does not send it again.
        retries: how often a message is sent again that was not taken.
        patience: seconds for each way; what they do not suffice for is left for another time.

    Returns:
        What went wrong, in words without secrets.
    """
    wanted = {f"{message.id}@{way.name}" for way in ways for message in messages}
    receipts, faults = sorted(wanted.intersection(taken)), []
    for way in ways:
        ends, left = time.monotonic() + patience, 0
        for message in messages:
            receipt = f"{message.id}@{way.name}"
            if receipt in receipts:
                continue
            if (seconds := ends - time.monotonic()) <= 0:
                left += 1
                continue
            try:
                _patiently(retries, seconds)(way.send, message)
                receipts.append(receipt)
                keep(receipts)
            except DeliveryError as error:
                faults.append(f"{headline(message)}: {error}")
        if left:
            faults.append(f"{left} message(s) wait for more time on the way {way.name}")
    return faults


def _for_good(error: Exception) -> bool:
    """The server will not take it another time either."""
    refused = (smtplib.SMTPRecipientsRefused, smtplib.SMTPAuthenticationError, ValueError)
    return isinstance(error, refused) or getattr(error, "smtp_code", 0) >= 500


def _patiently(retries: int, seconds: float) -> Retrying:
    return Retrying(
        stop=stop_after_attempt(retries + 1) | stop_after_delay(seconds),
        wait=wait_exponential(multiplier=0.25, max=4),
        retry=retry_if_exception(lambda error: getattr(error, "passing", False)),
        reraise=True,
    )


@contextmanager
def _kept_out_of_the_log(url: str) -> Iterator[None]:
    """Of every request httpx logs the URL; of this one it does not."""
    secret = httpx.URL(url)

    def other(record: logging.LogRecord) -> bool:
        return not isinstance(record.args, tuple) or secret not in record.args

    log = logging.getLogger("httpx")
    log.addFilter(other)
    try:
        yield
    finally:
        log.removeFilter(other)
