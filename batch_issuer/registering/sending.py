"""Sends devices to the API, several at a time, and writes down what became of each."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from batch_issuer.errors import ApiError, Interrupted
from batch_issuer.factory_api.devices import DeviceApi, Outcome
from batch_issuer.factory_api.pace import Pace
from batch_issuer.figures import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_issuer.factory_api.devices import Registration
    from batch_issuer.factory_api.endpoint import Endpoint
    from batch_issuer.registering.journal import Journal
    from batch_issuer.registering.registrants import Registrant
    from batch_issuer.registering.report import Tally

__all__ = ["Observer", "Sending"]

_FAILURES_IN_A_ROW = 10
"""So many devices after which it is the API that is down, and no device's bad luck."""

_GO_ON = "the same command goes on from there"


class Observer(Protocol):
    """Who is told how it goes."""

    def warn(self, sentence: str) -> None:
        """What the user should know."""

    def begin(self, devices: int) -> None:
        """So many devices to come."""

    def advance(self, devices: int, *, minted: bool = True) -> None:
        """So many more; those not registered now do not count for the rate."""

    def end(self) -> None:
        """No more come."""


class Sending:
    """One go at a run's devices.

    Args:
        registrants: the devices, and numbers of devices that need not be sent.
        journal: where it is written down.
        tally: where it is counted.
        observer: told how it goes.
        group: for devices that name none.
    """

    def __init__(
        self,
        registrants: Iterator[Registrant | int],
        journal: Journal,
        tally: Tally,
        observer: Observer,
        *,
        group: str | None,
    ) -> None:
        self._registrants = registrants
        self._journal = journal
        self._tally = tally
        self._observer = observer
        self._group = group
        self._failures = 0
        self._signals = 0

    async def run(self, endpoint: Endpoint, *, rate: float, concurrency: int) -> None:
        """Send all of them.

        Args:
            endpoint: the API.
            rate: requests per second, retries counted.
            concurrency: requests at a time.

        Raises:
            ApiError: no other device would fare better.
            Interrupted: by SIGINT or SIGTERM, before all were sent.
            BatchIssuerError: what `registrants` raises.
            OSError: it cannot be written down.
        """
        pace = Pace(rate)
        async with DeviceApi(endpoint, pace, connections=concurrency) as api:
            workers = [asyncio.create_task(self._work(api, pace)) for _ in range(concurrency)]
            with _signals(lambda: self._on_signal(pace, workers)):
                results = await asyncio.gather(*workers, return_exceptions=True)
        failures = [result for result in results if isinstance(result, Exception)]
        if failures:
            if self._tally.registered:
                self._observer.warn(f"{counted(self._tally.registered, 'device')} registered before that; {_GO_ON}")
            raise failures[0]
        if self._signals and self._tally.left:
            done, left = counted(self._tally.registered, "device"), self._tally.left
            raise Interrupted(f"interrupted: {done} registered, {left:,} left", hint=_GO_ON)

    async def _work(self, api: DeviceApi, pace: Pace) -> None:
        """Take devices until there are none, or nobody is to ask any more; what is on its way gets its answer."""
        try:
            for registrant in self._registrants:
                if isinstance(registrant, int):
                    self._tally.skip(registrant)
                    self._observer.advance(registrant, minted=False)
                    await asyncio.sleep(0)  # signals and answers get their turn
                else:
                    group = registrant.group or self._group
                    registration = await api.create(registrant.certificate, name=registrant.name, group=group)
                    if registration is None:
                        return
                    self._take(registrant, registration)
                if pace.stopped:
                    return
        except BaseException:
            pace.stop()
            raise

    def _take(self, registrant: Registrant, registration: Registration) -> None:
        self._journal.append(registrant.row, registrant.device_uuid, registration)
        self._tally.add(registrant, registration)
        self._observer.advance(1)
        self._failures = self._failures + 1 if registration.outcome is Outcome.FAILED else 0
        if self._failures == _FAILURES_IN_A_ROW:
            last = " ".join(str(word) for word in (registration.status, registration.message) if word)
            raise ApiError(
                f"the factory's API failed for {self._failures} devices in a row, each tried several times: {last}",
                status=registration.status,
                hint=f"when it is well again, {_GO_ON}",
            )

    def _on_signal(self, pace: Pace, workers: list[asyncio.Task[None]]) -> None:
        self._signals += 1
        if self._signals == 1:
            self._observer.warn("stopping when the requests on their way are answered; once more to stop at once")
            pace.stop()
        else:
            for worker in workers:
                worker.cancel()


@contextmanager
def _signals(handle: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `handle`, between two steps of the event loop."""
    loop = asyncio.get_running_loop()
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        for number, handler in previous.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
