"""This program as one of the peers: the same devices and CA, and the same facts tried out."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from itertools import islice
from time import monotonic, sleep
from typing import TYPE_CHECKING

from cryptography import x509

from batch_issuer import __version__
from batch_issuer.benchmark.runs import Run, issued
from batch_issuer.errors import RunFailedError
from benchmarks.peers.facts import (
    FACTORY,
    SYNC_CALLS,
    TRACED,
    Facts,
    after_kill,
    beside_profile,
    count_syncs,
    probe_requests,
)
from benchmarks.peers.running import UMASK, verify_chain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from batch_issuer.benchmark.workload import Workload

__all__ = ["OWN", "own_facts", "own_seconds"]

OWN = {f"batch-issuer, {kind}": kind for kind in ("dir", "tar", "parquet")}
"""What is measured of this program, with the formats."""

_PATIENCE = 60.0
_PARTS = 40
_JUDGED = 1_000


def own_seconds(workload: Workload, name: str, devices: int, processes: int) -> float:
    """Issue for so many devices; the seconds from the program's start to its end, as for everybody else.

    OpenSSL looks at some of the certificates, where they are files.

    Raises:
        RunFailedError: it failed, or made what OpenSSL refuses.
    """
    with issued(workload, Run(OWN[name], devices, processes)) as (out, figures):
        verify_chain(name, list(islice(out.glob("bundles/*/client.pem"), _JUDGED)), workload.pki)
        return figures["wall_seconds"]


def own_facts(workload: Workload, uuids: Sequence[str]) -> Facts:
    """The same facts as of the others.

    Args:
        workload: the CA, and a folder.
        uuids: devices for the run that is killed.

    Raises:
        RunFailedError: it does not issue.
    """
    requests = [f"{kind} {_verdict(workload, uuids[0], pem)}" for kind, pem in _bad_requests(uuids[0])]
    with _run(workload, uuids[:1]) as (out, code):
        if code:
            raise RunFailedError(f"batch-issuer ended with exit code {code}")
        bundle = out / "bundles" / uuids[0]
        certificate = x509.load_pem_x509_certificate((bundle / "client.pem").read_bytes())
        mode = f"{(bundle / 'pkey.pem').stat().st_mode & 0o7777:04o}"
    return Facts(
        version=f"batch-issuer {__version__}",
        profile=", ".join(beside_profile(certificate, uuids[0])),
        key_mode=mode,
        twice=_verdict(workload, *[uuids[0]] * 2).replace("signed", "issued twice"),
        requests=", ".join(requests),
        killed=_killed(workload, uuids),
        syncs=_syncs(workload, uuids[:TRACED]),
    )


def _bad_requests(uuid: str) -> list[tuple[str, bytes]]:
    return [(kind, pem) for kind, pem in probe_requests(uuid).items() if kind != "good"]


def _verdict(workload: Workload, uuid: str, other: str | bytes) -> str:
    """Of two rows for a device, or of one with a CSR."""
    pem = other if isinstance(other, bytes) else b""
    with _run(workload, [uuid] if pem else [uuid, str(other)], pem=pem) as (_, code):
        return "refused" if code else "signed"


def _command(workload: Workload, manifest: Path, *options: str) -> list[str]:
    arguments = ["issue", "--manifest", manifest, "--pki", workload.pki, "--out", workload.folder / "own"]
    return [sys.executable, "-m", "batch_issuer", *map(str, arguments), "--hardware-id", FACTORY, "-q", *options]


@contextmanager
def _run(
    workload: Workload, uuids: Sequence[str], before: Sequence[str] = (), pem: bytes = b""
) -> Iterator[tuple[Path, int]]:
    """Issue in a new folder; gives it with the exit code, and removes it."""
    manifest, out = workload.folder / "own.csv", workload.folder / "own"
    _write_manifest(manifest, uuids, pem)
    try:
        command = [*before, *_command(workload, manifest)]
        yield out, subprocess.run(command, capture_output=True, umask=UMASK, check=False).returncode
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _write_manifest(path: Path, uuids: Sequence[str], pem: bytes = b"") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["device_uuid", "csr"] if pem else ["device_uuid"])
        writer.writerows([uuid, pem.decode()] if pem else [uuid] for uuid in uuids)


def _killed(workload: Workload, uuids: Sequence[str]) -> str:
    """Kill it with all its workers when half of its parts are committed, then let it resume."""
    manifest, out = workload.folder / "own.csv", workload.folder / "own"
    _write_manifest(manifest, uuids)
    command = _command(workload, manifest, "--part-size", str(max(1, len(uuids) // _PARTS)), "--workers", "1")
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        commits, deadline = out / ".run" / "commits", monotonic() + _PATIENCE
        while process.poll() is None and monotonic() < deadline:
            if commits.is_dir() and len(os.listdir(commits)) >= _PARTS // 2:
                break
            sleep(0.001)
        if process.poll() is not None:
            raise RunFailedError("batch-issuer ended before it could be killed")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        before = _certificates(out)
        code = subprocess.run([*command, "--resume"], capture_output=True, check=False).returncode
        after = _certificates(out)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    replaced = sum(after.get(uuid) != octets for uuid, octets in before.items())
    return after_kill(code, replaced, len(set(uuids) - set(after)))


def _certificates(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in out.glob("bundles/*/client.pem")}


def _syncs(workload: Workload, uuids: Sequence[str]) -> int | None:
    if shutil.which("strace") is None:
        return None
    trace = workload.folder / "trace"
    before = ("strace", "-f", "-qq", "-e", f"trace={SYNC_CALLS}", "-o", str(trace))
    with _run(workload, uuids, before) as (_, code):
        return None if code else count_syncs(trace)
