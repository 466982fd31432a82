"""What came of a registration: counts, and by reason what was not registered."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.factory_api.devices import Outcome

if TYPE_CHECKING:
    from batch_issuer.factory_api.devices import Registration
    from batch_issuer.registering.registrants import Registrant

__all__ = ["Forecast", "Reason", "Report", "Tally"]

_MOST_REASONS = 200
_OTHER = "other messages; registered.csv has them all"


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would be sent.

    Attributes:
        api: the API's base address.
        devices: that the run has issued.
        registered: of these, those that the API has already, by `registered.csv`.
        to_send: the others.
        named: of those to be sent, the ones with a name.
        grouped: the same, with a device group.
    """

    api: str
    devices: int
    registered: int
    to_send: int
    named: int
    grouped: int


@dataclass(frozen=True, slots=True)
class Reason:
    """Why devices were not registered.

    Attributes:
        outcome: conflict, refused or failed.
        status: what the API answered, None if it did not.
        message: what it said; a device's own UUID and name in it stand as `<uuid>` and `<name>`.
        devices: how many.
        example: the UUID of the first one.
    """

    outcome: str
    status: int | None
    message: str
    devices: int
    example: str


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it.

    Attributes:
        api: the API's base address.
        devices: that the run has issued.
        already: registered before, and not sent again.
        created: new at the API.
        existed: there already, the same.
        conflicts: something else has the UUID or the name.
        refused: for another reason.
        failed: after all tries.
        reasons: of the last three, the most frequent first.
        complete: whether the run itself is finished.
        seconds: how long it took.
    """

    api: str
    devices: int
    already: int
    created: int
    existed: int
    conflicts: int
    refused: int
    failed: int
    reasons: tuple[Reason, ...]
    complete: bool
    seconds: float

    @property
    def registered(self) -> bool:
        """Whether the API has every device that is issued."""
        return not self.conflicts + self.refused + self.failed


class Tally:
    """Counts what becomes of devices.

    Args:
        devices: that there are.
    """

    def __init__(self, devices: int) -> None:
        self._devices = devices
        self._already = 0
        self._outcomes: Counter[Outcome] = Counter()
        self._reasons: Counter[tuple[Outcome, int | None, str]] = Counter()
        self._examples: dict[tuple[Outcome, int | None, str], str] = {}
        self._began = time.monotonic()

    @property
    def registered(self) -> int:
        """Devices that were registered now."""
        return sum(count for outcome, count in self._outcomes.items() if outcome.registered)

    @property
    def left(self) -> int:
        """Devices of which nothing is known yet."""
        return self._devices - self._already - self._outcomes.total()

    def skip(self, devices: int) -> None:
        """So many were registered before."""
        self._already += devices

    def add(self, registrant: Registrant, registration: Registration) -> None:
        """What became of one."""
        self._outcomes[registration.outcome] += 1
        if registration.outcome.registered:
            return
        message = registration.message.replace(registrant.device_uuid, "<uuid>")
        if registrant.name:
            message = message.replace(registrant.name, "<name>")
        key = (registration.outcome, registration.status, message)
        if key not in self._reasons and len(self._reasons) >= _MOST_REASONS:
            key = (registration.outcome, None, _OTHER)
        self._reasons[key] += 1
        self._examples.setdefault(key, registrant.device_uuid)

    def report(self, api: str, *, complete: bool) -> Report:
        """All of it.

        Args:
            api: the API's base address.
            complete: whether the run itself is finished.
        """
        reasons = [Reason(*key, count, self._examples[key]) for key, count in self._reasons.most_common()]
        return Report(
            api=api,
            devices=self._devices,
            already=self._already,
            created=self._outcomes[Outcome.CREATED],
            existed=self._outcomes[Outcome.EXISTED],
            conflicts=self._outcomes[Outcome.CONFLICT],
            refused=self._outcomes[Outcome.REFUSED],
            failed=self._outcomes[Outcome.FAILED],
            reasons=tuple(reasons),
            complete=complete,
            seconds=time.monotonic() - self._began,
        )
