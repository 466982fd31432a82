"""A probe from its first device to its last: many at a time, in one process.

One process is enough: it brings 580 devices a second through handshake and requests, beside a gateway on the other
of two cores. What it holds per device is counted in octets.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from batch_issuer.core_dumps import forbid_core_dumps
from batch_issuer.errors import BatchIssuerError
from batch_issuer.figures import counted
from batch_issuer.probe.exchange import Exchange
from batch_issuer.probe.faults import ProbeError
from batch_issuer.probe.report import Latency, Report, Tally
from batch_issuer.probe.target import addresses_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_issuer.probe.selection import Candidate, Selection
    from batch_issuer.probe.target import Target

__all__ = ["probe_devices"]

_GIVE_UP = 20
"""After so many devices in a row for which the gateway was not there, the others are spared."""


def probe_devices(
    selection: Selection,
    target: Target,
    *,
    concurrency: int,
    timeout: float,
    advance: Callable[[int], None] = lambda _: None,
) -> Report:
    """Let every selected device talk to a gateway, each once.

    SIGINT and SIGTERM end it with what was found until then.

    Args:
        selection: the devices.
        target: the gateway.
        concurrency: at most so many at a time.
        timeout: seconds for each.
        advance: told how many more are probed.

    Raises:
        BatchIssuerError: no device reached the gateway, or this machine ran out of something.
        OutputError: a bundle's place cannot be.
        OSError: a stored bundle cannot be read, for another reason than damage.
    """
    forbid_core_dumps()  # the devices' keys are in this process's memory
    run = _Run(selection.candidates(), concurrency, advance)
    began = monotonic()
    asyncio.run(run.all(target, timeout))
    tally = run.tally
    if tally.absences and not tally.reached:
        raise BatchIssuerError(
            f"no gateway answers at {target.place}: {tally.absence} ({counted(tally.absences, 'device')} tried)",
            hint="is it running? --gateway HOST:PORT says where it is",
        )
    return Report(
        gateway=target.place,
        server_name=target.server_name,
        issued=selection.issued,
        chosen=len(selection),
        seed=selection.seed,
        probed=tally.probed,
        passed=tally.passed,
        unconfirmed=tally.unconfirmed,
        failures=tally.failures(),
        seconds=monotonic() - began,
        handshake=Latency.of(tally.handshakes),
        exchange=Latency.of(tally.exchanges),
        complete=selection.finished,
        gave_up=run.gave_up,
        interrupted=run.interrupted,
    )


class _Run:
    def __init__(self, candidates: Iterator[Candidate], concurrency: int, advance: Callable[[int], None]) -> None:
        self.tally = Tally()
        self.gave_up: str | None = None
        self.interrupted = False
        self._candidates = candidates
        self._concurrency = concurrency
        self._advance = advance

    async def all(self, target: Target, timeout: float) -> None:
        exchange = Exchange(target, await addresses_of(target), timeout)
        tasks = [asyncio.create_task(self._some(exchange)) for _ in range(self._concurrency)]

        def stop() -> None:
            self.interrupted = True
            for task in tasks:
                task.cancel()

        try:
            with _on_signals(stop):
                await asyncio.gather(*tasks)
        except asyncio.CancelledError:
            if not self.interrupted:
                raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _some(self, exchange: Exchange) -> None:
        """Device after device, of the iterator that all such tasks share."""
        for candidate in self._candidates:
            if self.gave_up is not None:
                return
            try:
                passed = await exchange.run(candidate)
            except ProbeError as fault:
                self.tally.add_failed(candidate.device_uuid, fault)
                if self.tally.absent_for >= _GIVE_UP:
                    self.gave_up = f"{_GIVE_UP} devices in a row saw no gateway: {fault.detail}"
            else:
                self.tally.add_passed(passed)
            self._advance(1)


@contextmanager
def _on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `stop` from within the event loop, where an exception of a handler would be lost."""
    loop, numbers = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.getsignal(number) for number in numbers]
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
