"""What is issued in a benchmark: a factory that nobody trusts, and the same devices every time."""

from __future__ import annotations

import random
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from batch_issuer.authority.issuer import load_issuer
from batch_issuer.bundles.passwords import random_passwords
from batch_issuer.ceremony.create import create_pki
from batch_issuer.columns import fixed_text_column
from batch_issuer.devices import UUID_LENGTH
from batch_issuer.files import PRIVATE_MODE, write_new

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_issuer.authority.issuer import Issuer

__all__ = ["Workload", "device_uuids", "fastest_folder", "temporary_folder", "temporary_workload"]

_SEED = 2026
_CHUNK = 10_000


def device_uuids(count: int, *, seed: int) -> list[bytes]:
    """The first `count` UUIDs (version 4) of a seed, 36 ASCII octets each; the same ones every time."""
    source = random.Random(_SEED + seed)  # noqa: S311 - names of devices, the same every time; nothing secret
    texts: list[str] = []
    while len(texts) < count:
        octets = source.randbytes(16 * _CHUNK).hex()
        texts += [octets[start : start + 32] for start in range(0, len(octets), 32)]
    return [f"{t[:8]}-{t[8:12]}-4{t[13:16]}-a{t[17:20]}-{t[20:]}".encode() for t in texts[:count]]


def fastest_folder() -> Path:
    """Where figures depend least on a disk: in memory if the system has such a place, else where temporary files go."""
    memory = Path("/dev/shm")  # noqa: S108 - only folders of random names are made there
    return memory if memory.is_dir() else Path(tempfile.gettempdir())


@dataclass(frozen=True, slots=True)
class Workload:
    """A folder of its own with all that a benchmark needs.

    Attributes:
        folder: nobody else's.
        pki: a PKI directory made for this benchmark.
        issuer: its device CA.
        options: what `issue` is to be told besides, of where the CA's key is.
    """

    folder: Path
    pki: Path
    issuer: Issuer
    options: tuple[str, ...] = ()

    def manifest(self, devices: int) -> Path:
        """A Parquet manifest of so many devices, made when it is first asked for."""
        path = self.folder / f"devices-{devices}.parquet"
        if not path.exists():
            column = fixed_text_column(b"".join(device_uuids(devices, seed=0)), UUID_LENGTH)
            pq.write_table(pa.table({"device_uuid": column}), path)
        return path

    def p12_password(self) -> Path:
        """A file with the password of bundles, made when it is first asked for."""
        path = self.folder / "p12-password"
        if not path.exists():
            write_new(path, random_passwords(1), PRIVATE_MODE)
        return path


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, absolute, which is gone with all it holds afterwards.

    Raises:
        OSError: it cannot be made.
    """
    with tempfile.TemporaryDirectory(prefix="batch-issuer-bench-", dir=parent, ignore_cleanup_errors=True) as name:
        yield Path(name).absolute()


@contextmanager
def temporary_workload(parent: Path) -> Iterator[Workload]:
    """A workload in a new folder of `parent`, which is gone with all it holds afterwards.

    Raises:
        OSError: the folder cannot be made.
    """
    with temporary_folder(parent) as folder:
        now = datetime.now(UTC)
        create_pki(folder / "pki", factory="bench", gateway_host="gateway.bench.example", now=now)
        yield Workload(folder, folder / "pki", load_issuer(folder / "pki", "local-ca", now=now))
