"""The CSRs of a manifest's rows, checked by worker processes while the manifest is still being read.

To check one takes about as long as to issue three devices, so nothing of it is done in the parent: it cuts the rows
with a CSR into pieces, and gets back what is wrong, and the digests of the public keys, by which it finds duplicates.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, islice
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from batch_issuer.authority.requests import check_device_request, read_request, request_key
from batch_issuer.devices import Rejection
from batch_issuer.errors import RequestError
from batch_issuer.manifest.columns import CSR_COLUMN, PRODUCTION_COLUMN, UUID_COLUMN, shorten
from batch_issuer.manifest.partitions import KEY_OCTETS
from batch_issuer.processes import Supervisor, prepare_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["CheckedPiece", "CsrPiece", "CsrRules", "check_pieces", "cut_pieces"]

_PIECE = 1000
"""Rows of a piece: a tenth of a second's work, so that even short manifests keep every worker busy."""

_WHAT = "the CSR"
_LONGEST_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class CsrPiece:
    """Some rows with CSRs, a task for a worker.

    Attributes:
        name: which rows, for messages.
        rows: row number, UUID, production flag and CSR, as an Arrow IPC stream.
    """

    name: str
    rows: bytes


@dataclass(frozen=True, slots=True)
class CheckedPiece:
    """What came of a piece.

    Attributes:
        rejections: one for each CSR that is not fit.
        rows: the numbers of the others' rows, 8 octets each in this machine's order.
        keys: of each of these the first `KEY_OCTETS` octets of its SubjectPublicKeyInfo's SHA-256.
    """

    rejections: list[Rejection]
    rows: bytes
    keys: bytes


@dataclass(frozen=True, slots=True)
class CsrRules:
    """What the CSRs of a run must be; a worker's start: picklable, and called once in each worker.

    Attributes:
        factory: the organizational unit of every device.
        production: whether devices are of production, unless their row says otherwise.
        column: the CSR column's name in the manifest.
    """

    factory: str
    production: bool
    column: str

    def __call__(self) -> Callable[[CsrPiece], CheckedPiece]:
        """What checks a piece."""
        return self.check

    def check(self, piece: CsrPiece) -> CheckedPiece:
        """Check every CSR of a piece."""
        rejections, rows, keys = [], array("q"), []
        for values in pa.ipc.open_stream(piece.rows).read_all().to_pylist():
            row, production = values["row"], values[PRODUCTION_COLUMN]
            try:
                digest = self._key_digest(values[CSR_COLUMN], values[UUID_COLUMN], production=production)
            except RequestError as error:
                message = f"row {row}, column {self.column!r}: {str(error)[:_LONGEST_MESSAGE]}"
                rejections.append(Rejection(row, self.column, shorten(values[CSR_COLUMN]), error.code, message))
            else:
                rows.append(row)
                keys.append(digest[:KEY_OCTETS])
        return CheckedPiece(rejections, rows.tobytes(), b"".join(keys))

    def _key_digest(self, text: str, device_uuid: str, *, production: bool | None) -> bytes:
        csr = read_request(text, _WHAT)
        identity = check_device_request(csr, factory=self.factory, what=_WHAT)
        if identity.device_uuid != device_uuid:
            raise _uuid_error(identity.device_uuid, device_uuid)
        wanted = self.production if production is None else production
        if identity.production != wanted:
            raise _production_error(wanted=wanted, by_row=production is not None)
        spki = request_key(csr).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return sha256(spki).digest()


def _uuid_error(found: str, wanted: str) -> RequestError:
    # No CA may write a subject anew that its device must repeat for each renewal, so neither is mended here.
    if found.lower() == wanted:
        return RequestError(
            "csr-uuid-case",
            f"{_WHAT} must have the UUID in lower case as its common name (CN), {wanted}; it has {found}; the device "
            "has to make its CSR anew, since gateways tell the cases apart",
        )
    return RequestError(
        "csr-uuid", f"{_WHAT} must have the row's UUID as its common name (CN), {wanted}; it has {found}"
    )


def _production_error(*, wanted: bool, by_row: bool) -> RequestError:
    asked = "the row" if by_row else "--production" if wanted else "--no-production"
    rule = "must have" if wanted else "must not have"
    return RequestError(
        "csr-production",
        f"{_WHAT} {rule} businessCategory=production in its subject, as {asked} has it; the CA cannot change a subject",
    )


def cut_pieces(accepted: pa.Table) -> Iterator[CsrPiece]:
    """The rows with a CSR among some accepted ones, piece by piece."""
    if CSR_COLUMN not in accepted.column_names:
        return
    brought = accepted.select(["row", UUID_COLUMN, PRODUCTION_COLUMN, CSR_COLUMN])
    brought = brought.filter(pc.is_valid(brought[CSR_COLUMN]))
    for start in range(0, len(brought), _PIECE):
        piece = brought.slice(start, _PIECE)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, piece.schema) as writer:
            writer.write_table(piece)
        first, last = (piece["row"][place].as_py() for place in (0, len(piece) - 1))
        yield CsrPiece(f"the CSRs of rows {first} to {last}", sink.getvalue().to_pybytes())


def check_pieces(
    pieces: Iterable[CsrPiece], rules: CsrRules, *, workers: int, notify: Callable[[str], None]
) -> Iterator[CheckedPiece]:
    """What comes of each piece, in the order in which they are done; without pieces no process is started.

    Args:
        pieces: taken one by one, as workers become free.
        rules: what CSRs must be.
        workers: processes.
        notify: told, in a sentence, that many CSRs are checked, and when a worker died and was replaced.

    Raises:
        RunFailedError: workers died again and again.
    """
    pieces = iter(pieces)
    ahead = list(islice(pieces, workers + 1))
    if not ahead:
        return
    if len(ahead) > 1:
        notify("checking the manifest's CSRs")
    prepare_workers([__name__])
    supervisor: Supervisor[CsrPiece, CheckedPiece] = Supervisor(
        rules, workers=min(workers, len(ahead)), label=lambda piece: piece.name, notify=notify
    )
    for _, checked in supervisor.run(chain(ahead, pieces)):
        yield checked
