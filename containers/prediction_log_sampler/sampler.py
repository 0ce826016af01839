"""Finds the predictions of a version's pods in the store, and writes a sample of them."""

import json
import random
from dataclasses import dataclass, field
from functools import partial
from time import sleep

from bento_fetcher.download import DeadlineError, deadline
from bento_fetcher.settings import reason, shown
from prediction_log_shipper import report
from prediction_log_shipper.store import Store
from prediction_log_shipper.volume import LINES

from prediction_log_sampler.settings import Settings

log = partial(report.log, logger="churn.sampler")


class TooFewError(Exception):
    """The store has not enough predictions in time; the message is one line that says why."""


@dataclass
class Sampler:
    """Reads each file of the store at most once, the newest first, until there are enough lines.

    In memory are one file, which has `predictionLog.fileBytes` and a batch at most, and the lines
    that were found.
    """

    settings: Settings
    store: Store
    files: set[str] = field(default_factory=set)
    found: list[bytes] = field(default_factory=list)

    def run(self) -> None:
        """Writes the sample, as soon as there are enough predictions.

        Raises:
            TooFewError: There were too few within the time.
        """
        last = ""
        try:
            with deadline(self.settings.timeout):
                while True:
                    try:
                        self.read_new_files()
                    except Exception as error:  # noqa: BLE001 - the stores share no base class
                        last = f"; the last error: {reason(error)}"
                        log("ERROR", "the store cannot be read", error=reason(error))
                    if len(self.found) >= self.settings.lines:
                        break
                    sleep(self.settings.interval)
        except DeadlineError:
            raise TooFewError(self._too_few() + last) from None
        part = self.settings.target.with_suffix(".part")
        part.write_bytes(b"".join(random.sample(self.found, self.settings.lines)))
        part.replace(self.settings.target)
        log("INFO", "sampled", lines=self.settings.lines, of=len(self.found), files=len(self.files))

    def read_new_files(self) -> None:
        """Reads files that were not read yet, until there are enough predictions."""
        for name in self._names():
            if len(self.found) >= self.settings.lines:
                return
            if name not in self.files:
                lines = self.store.read(name).splitlines(keepends=True)
                self.found += [line for line in lines if self._is_wanted(line, name)]
                self.files.add(name)

    def _names(self) -> list[str]:
        """Names of the files of lines, the newest first."""
        release, pod_part = self.settings.release, f"-{self.settings.template_hash}-"
        found = [
            (_written(name), f"{contract}/{release}/{pod}/{name}")
            for contract in self.store.names("")
            for pod in self.store.names(f"{contract}/{release}")
            if pod_part in pod
            for name in self.store.names(f"{contract}/{release}/{pod}")
            if LINES.fullmatch(name)
        ]
        return [path for _, path in sorted(found, reverse=True)]

    def _is_wanted(self, line: bytes, name: str) -> bool:
        """Whether a line is a whole prediction of the pod template."""
        try:
            template_hash = json.loads(line).get("template_hash")
        except (ValueError, AttributeError) as error:
            log("ERROR", "no prediction", object=name, error=reason(error))
            return False
        return bool(line.endswith(b"\n") and template_hash == self.settings.template_hash)

    def _too_few(self) -> str:
        settings = self.settings
        return (
            f"{len(self.found)} of {settings.lines} predictions of the pod template "
            f"{settings.template_hash} were in {len(self.files)} files of {shown(settings.url)} "
            f"within {settings.timeout:g} s: check that its pods get requests, that "
            "predictionLog.fileSeconds is less than the time, and the log of the sidecar "
            "prediction-log-shipper"
        )


def _written(name: str) -> tuple[str, int]:
    """Start of the process that wrote a file, and the file's number."""
    _, start, number, _ = name.rsplit(".", 3)
    return start, int(number)
