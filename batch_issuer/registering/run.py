"""The story of one registration: every device of a run at the factory's API, once, however often it takes."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING

from batch_issuer.bundles.sealed import readable_format
from batch_issuer.errors import RefusedError
from batch_issuer.output.folder import OutputFolder
from batch_issuer.output.record import read_record
from batch_issuer.registering.journal import REGISTERED, Journal, RegisteredRows
from batch_issuer.registering.report import Forecast, Report, Tally
from batch_issuer.registering.rows import issued_devices, registrants
from batch_issuer.registering.sending import Sending

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.bundles.format import PasswordOf
    from batch_issuer.bundles.recipients import AgeIdentities
    from batch_issuer.factory_api.endpoint import Endpoint
    from batch_issuer.output.record import RunRecord
    from batch_issuer.registering.sending import Observer

__all__ = ["forecast", "register_run"]


def forecast(out: Path, *, api: str, group: str | None, observer: Observer) -> Forecast:
    """What `register_run` would send now; writes nothing, asks nobody.

    Args:
        out: the run's output folder.
        api: the API's base address.
        group: for devices whose rows name none.
        observer: told what the user should know.

    Raises:
        OutputError: there is no run, its manifest or `registered.csv` is damaged.
        RefusedError: no device is issued yet.
    """
    folder, record, _ = _open_run(out, observer)
    known = RegisteredRows(record.rows, api)
    if (out / REGISTERED).exists():
        with (out / REGISTERED).open("rb") as file:
            known.read(file)
    devices = registered = named = grouped = 0
    for device in issued_devices(folder, record):
        devices += 1
        if known.has(device.row, device.device_uuid):
            registered += 1
        else:
            named += device.name is not None
            grouped += (device.group or group) is not None
    return Forecast(api, devices, registered, devices - registered, named, grouped)


def register_run(
    out: Path,
    endpoint: Endpoint,
    *,
    group: str | None,
    rate: float,
    concurrency: int,
    observer: Observer,
    identities: AgeIdentities | None = None,
    passwords: PasswordOf | None = None,
) -> Report:
    """Create a run's devices at the factory's API.

    1. Read the run; take `registered.csv` for this process alone, and see what it says of this API.
    2. Send every device that the API does not have yet, at most `rate` requests a second and `concurrency` at a time;
       write down what became of it.
    3. Tell what was not registered, by reason.

    To be called in the main thread: SIGINT and SIGTERM let the requests on their way come to their answers, and end
    it; a second one ends it at once.

    Args:
        out: the run's output folder.
        endpoint: the API.
        group: for devices whose rows name none.
        rate: requests per second, retries counted.
        concurrency: requests at a time.
        observer: told how it goes.
        identities: what opens sealed bundles, where the manifest has no certificates.
        passwords: what opens PKCS#12 bundles, where the manifest has no certificates.

    Raises:
        OutputError: there is no run, its manifest or `registered.csv` is damaged, or another process registers it.
        RefusedError: no device is issued yet; or bundles are sealed, and there is no identity, or no right one.
        BundleError: a device's certificate cannot be read, or is not what the manifest says.
        ApiError: the API cannot be reached, refuses the token, or fails for every device.
        Interrupted: by a signal.
        OSError: `registered.csv` cannot be written.
    """
    folder, record, devices = _open_run(out, observer)
    if not record.with_certificates:
        readable_format(record.format, record.seal_to, identities)  # refuses what cannot be read
    known = RegisteredRows(record.rows, endpoint.url)
    tally = Tally(devices)
    with (
        Journal(out / REGISTERED, known, api=endpoint.url) as journal,
        closing(registrants(folder, record, known, identities, passwords)) as unregistered,
    ):
        sending = Sending(unregistered, journal, tally, observer, group=group)
        observer.begin(devices)
        try:
            asyncio.run(sending.run(endpoint, rate=rate, concurrency=concurrency))
        finally:
            observer.end()
    return tally.report(endpoint.url, complete=folder.summary.exists())


def _open_run(out: Path, observer: Observer) -> tuple[OutputFolder, RunRecord, int]:
    """The run, what was asked of it, and how many devices it has issued."""
    folder = OutputFolder(out)
    record = read_record(folder.record)
    devices = record.accepted
    if not folder.summary.exists():
        observer.warn(f"the run in {out} is unfinished: only what is committed can be registered")
        committed = (index for index in range(record.parts) if folder.commit(index).exists())
        devices = sum(map(record.part_devices, committed))
    if not devices:
        raise RefusedError("no device is issued yet", hint="resume the run first")
    return folder, record, devices
