"""Steps 2 to 4 of a run, one part at a time, in a worker process: mint and stage, commit, publish."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from batch_issuer.batch.clock import TimedCrypto, WorkerClock
from batch_issuer.batch.signature import ca_signature
from batch_issuer.batch.spill import PlanReader
from batch_issuer.batch.terms import device_issuance, sota_settings
from batch_issuer.bundles.contents import PartBundles, certificate_pem
from batch_issuer.bundles.passwords import random_passwords
from batch_issuer.bundles.sealed import writable_format
from batch_issuer.bundles.sota import sota_toml
from batch_issuer.columns import fixed_text_values
from batch_issuer.devices import UUID_LENGTH, CertificateDer
from batch_issuer.errors import OutputError
from batch_issuer.manifest.columns import CSR_COLUMN
from batch_issuer.manifest.rows import CARRIED_PREFIX
from batch_issuer.minting.keys import choose_engine, key_engine
from batch_issuer.minting.mint import Mint
from batch_issuer.output.folder import part_name
from batch_issuer.output.passwords import password_lines
from batch_issuer.output.rows import KEY_BROUGHT, KEY_MADE, commit_table, encode_commit, new_attempt

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_issuer.authority.issuer import Issuer
    from batch_issuer.batch.home import Home
    from batch_issuer.devices import MintedPart
    from batch_issuer.output.record import RunRecord
    from batch_issuer.output.rows import CommitRecord

__all__ = ["PartDone", "PartWork", "PartWorker"]

_TIMED_EACH = 8
"""A worker times keys and signatures in its first part, and in each that many after it."""


@dataclass(frozen=True, slots=True)
class PartDone:
    """What a worker reports of a part.

    Attributes:
        devices: how many it has.
        octets: what its bundles take; 0 when they were there already.
        minted: whether it was made now, and not committed by an earlier run or worker.
    """

    devices: int
    octets: int
    minted: bool


@dataclass(frozen=True, slots=True)
class PartWork:
    """A worker's start: picklable, and called once in each worker.

    Attributes:
        home: where the run's output lives.
        record: what was asked.
        issuer: the CA with its key's source, which each worker opens for itself.
        resumed: whether an earlier command worked on this run.
        engine: the name of what makes keys; `auto` for the fastest that a worker's machine has.
        session: when the command began, milliseconds since 1970 in UTC: its parts are told from other commands' by it.
        p12_password: of a run that has one for all bundles; goes to the workers through their pipe. Not shown by repr.
    """

    home: Home
    record: RunRecord
    issuer: Issuer
    resumed: bool
    engine: str
    session: int = 0
    p12_password: bytes | None = field(default=None, repr=False)

    def __call__(self) -> Callable[[int], PartDone]:
        """Open what a worker needs; returns what makes the part at an index.

        The function returned raises what its steps raise: OSError, OutputError, BundleError, TemplateMismatch.
        """
        return PartWorker(self).make


@dataclass(frozen=True, slots=True)
class _Made:
    """An attempt that was committed, and what its bundles take."""

    attempt: str
    octets: int


class PartWorker:
    """What makes parts, one after the other; a context manager. Raises in all it does what `PartWork` says.

    Args:
        work: of which run.
    """

    def __init__(self, work: PartWork) -> None:
        self._record, self._resumed = work.record, work.resumed
        self._plan = PlanReader(work.home.folder.plan)
        self._home = work.home.parts(writable_format(work.record.format, work.record.seal_to))
        self._sota = sota_settings(work.record)
        self._root = CertificateDer(work.issuer.root)
        self._ca = CertificateDer(work.issuer.certificate)
        self._password = work.p12_password
        self._window = (work.record.starts, work.record.ends)
        public_key = x509.load_der_x509_certificate(work.issuer.certificate).public_key()
        assert isinstance(public_key, ec.EllipticCurvePublicKey)  # noqa: S101 - loading the issuer checked it
        engine = key_engine(choose_engine(work.engine))
        sign, issuance = ca_signature(work.issuer, engine), device_issuance(work.record)
        self._mint = Mint(issuance, engine, sign, public_key)
        self._clock = WorkerClock(work.session)
        self._timed = TimedCrypto(engine, sign) if work.record.report else None
        self._timed_mint = None if self._timed is None else Mint(issuance, self._timed, self._timed.sign, public_key)
        self._parts = 0
        gc.freeze()

    def __enter__(self) -> PartWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self._plan.__exit__()

    def make(self, index: int) -> PartDone:
        """Steps 2 to 4 for the part at an index, or what of them is left to do."""
        # Nothing below makes cycles; the collector would walk every key and certificate of the part for nothing.
        gc.disable()
        try:
            with self._home.working():
                return self._make(index)
        finally:
            gc.enable()

    def _make(self, index: int) -> PartDone:
        self._clock.begin()
        rows = self._plan.part(index)
        uuid_column = rows.column("device_uuid")
        device_uuids = fixed_text_values(uuid_column, UUID_LENGTH)
        record = self._home.read_commit(index)
        made = None if record is not None else self._stage_and_commit(rows, device_uuids, index)
        # 4 Publish. Idempotent: for a part that was committed by another attempt, this does what was left to do.
        attempt = made.attempt if made is not None else self._committed(record, uuid_column, index)
        self._home.publish(index, attempt, device_uuids, made_now=made is not None)
        return PartDone(len(device_uuids), 0 if made is None else made.octets, minted=made is not None)

    def _committed(self, record: CommitRecord | None, device_uuids: pa.Array, index: int) -> str:
        """The attempt that is committed, by another process perhaps just now."""
        record = record or self._home.read_commit(index)
        if record is None or not record.rows["device_uuid"].combine_chunks().equals(device_uuids):
            message = f"the commit record {part_name(index)}.arrow is of other devices"
            raise OutputError(message, hint="restore it from a backup")
        return record.attempt

    def _stage_and_commit(self, rows: pa.RecordBatch, device_uuids: list[bytes], index: int) -> _Made | None:
        """Steps 2 and 3 by an attempt of its own; None when another attempt is committed."""
        if self._resumed and self._home.is_published(index, device_uuids):
            return None
        # 2 Mint and stage, where nobody else writes.
        attempt = new_attempt()
        part, signing = self._minted(device_uuids, rows)
        bundles = PartBundles(
            part.device_uuids,
            part.private_keys,
            part.certificates,
            self._root,
            self._sota_texts(rows),
            self._ca,
            self._passwords(len(rows)),
        )
        staged = self._home.stage(bundles, index, attempt)
        # 3 Commit: from then on that its record has its name these devices are issued, and not before. First wins.
        # Passwords that were made stand in the record itself: they are there when the part is, and not otherwise.
        made = bundles.passwords if self._record.makes_passwords else None
        lines = None if made is None else password_lines(device_uuids, made)
        table = self._commit_table(rows, part, self._home.locations(index, attempt, part.device_uuids))
        timing = self._clock.timing(signing)
        record = encode_commit(table, staged.sums, attempt, passwords=lines, timing=timing)
        if self._home.commit(index, attempt, record):
            return _Made(attempt, staged.octets)
        return None

    def _minted(self, device_uuids: list[bytes], rows: pa.RecordBatch) -> tuple[MintedPart, float]:
        """The part's keys and certificates; and the seconds in keys and signatures alone, of some of the parts."""
        mint, timed = self._timed_mint, self._timed
        if mint is None or timed is None or self._parts % _TIMED_EACH:
            mint, timed = self._mint, None
        self._parts += 1
        began = 0.0 if timed is None else timed.seconds
        part = mint.part(device_uuids, self._production(rows), _csrs(rows))
        return part, 0.0 if timed is None else timed.seconds - began

    def _passwords(self, count: int) -> list[bytes] | None:
        if self._record.makes_passwords:
            return random_passwords(count)
        return None if self._password is None else [self._password] * count

    def _production(self, rows: pa.RecordBatch) -> bool | list[bool]:
        column = rows.column("production")
        if column.null_count == len(column):
            return self._record.production
        flags: list[bool] = column.fill_null(self._record.production).to_pylist()
        return flags

    def _sota_texts(self, rows: pa.RecordBatch) -> list[bytes] | None:
        if self._sota is None:
            return None
        sota, names = self._sota, set(rows.schema.names)
        columns = [
            rows.column(CARRIED_PREFIX + name).to_pylist() if CARRIED_PREFIX + name in names else [None] * len(rows)
            for name in ("hardware_id", "tag", "apps")
        ]
        texts: dict[tuple[str | None, ...], bytes] = {}
        wanted = list(zip(*columns, strict=True))
        for hardware_id, tag, apps in set(wanted):
            texts[hardware_id, tag, apps] = sota_toml(
                sota, hardware_id=hardware_id or sota.hardware_id or "", tag=tag or sota.tag, apps=apps
            )
        return [texts[key] for key in wanted]

    def _commit_table(self, rows: pa.RecordBatch, part: MintedPart, locations: list[str]) -> pa.Table:
        certificates = None
        if self._record.with_certificates:
            certificates = [certificate_pem(certificate).decode() for certificate in part.certificates]
        carried = {
            column.removeprefix(CARRIED_PREFIX): rows.column(column)
            for column in rows.schema.names
            if column.startswith(CARRIED_PREFIX)
        }
        return commit_table(
            rows.column("row"),
            rows.column("device_uuid"),
            part,
            self._window,
            locations,
            certificates=certificates,
            key_origins=_key_origins(rows) if self._record.csr_rows else None,
            carried=carried,
        )


def _csrs(rows: pa.RecordBatch) -> list[bytes | None] | None:
    """The CSRs that some of the rows bring; None when none does."""
    if CSR_COLUMN not in rows.schema.names:
        return None
    column = rows.column(CSR_COLUMN)
    if column.null_count == len(column):
        return None
    texts: list[bytes | None] = column.cast(pa.binary()).to_pylist()
    return texts


def _key_origins(rows: pa.RecordBatch) -> pa.Array:
    return pc.if_else(pc.is_null(rows.column(CSR_COLUMN)), KEY_MADE, KEY_BROUGHT)
