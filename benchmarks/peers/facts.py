"""What a peer does besides being fast or slow: each fact is tried out here, and none is from anybody's documents."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import asdict, dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from batch_issuer.errors import RunFailedError
from batch_issuer.profiles import DEVICE, device_name, key_usage
from benchmarks.peers.running import prepared

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.peers.recipes import Peer
    from benchmarks.peers.running import Folder

__all__ = [
    "FACTORY",
    "SYNC_CALLS",
    "Facts",
    "after_kill",
    "beside_profile",
    "count_syncs",
    "peer_facts",
    "probe_requests",
]

FACTORY = "bench"
SYNC_CALLS = "fsync,fdatasync,syncfs,sync,sync_file_range"
TRACED = 4
"""Devices that are issued under strace."""

_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found out about one way to issue.

    Attributes:
        version: the first line that names it.
        profile: how its certificates differ from the device profile, in words; empty if they do not.
        key_mode: of a device's key file, in octal.
        twice: what becomes of a device that is listed twice.
        requests: what becomes of CSRs that should be refused; empty if it takes none.
        killed: what becomes of a run that was killed half-way and is started again.
        syncs: system calls that make files durable, with `TRACED` devices; None without strace.
    """

    version: str
    profile: str
    key_mode: str
    twice: str
    requests: str
    killed: str
    syncs: int | None

    def to_values(self) -> dict[str, str | int | None]:
        """For JSON."""
        return asdict(self)


def peer_facts(peer: Peer, parent: Path, pki: Path, uuids: Sequence[str]) -> Facts:
    """Try all of it out.

    Args:
        peer: who.
        parent: where working folders are made.
        pki: the PKI directory.
        uuids: devices for the run that is killed: some seconds of work.

    Raises:
        RunFailedError: the peer does not even do what it is here for.
    """
    with prepared(peer, parent, pki) as folder:
        folder.issue(uuids[:1])
        certificate = x509.load_pem_x509_certificate(folder.certificate(uuids[0]).read_bytes())
        mode = f"{folder.key(uuids[0]).stat().st_mode & 0o7777:04o}"
        version = _first_line(folder)
    return Facts(
        version=version,
        profile=", ".join(beside_profile(certificate, uuids[0])),
        key_mode=mode,
        twice=_twice(peer, parent, pki, uuids[0]),
        requests=_requests(peer, parent, pki),
        killed=_killed(peer, parent, pki, uuids),
        syncs=_syncs(peer, parent, pki, uuids[:TRACED]),
    )


def _first_line(folder: Folder) -> str:
    ended = subprocess.run(("sh", "-c", folder.peer.version), capture_output=True, text=True, check=False)
    lines = [line.strip() for line in ended.stdout.splitlines() if any(letter.isdigit() for letter in line)]
    return lines[0] if lines else "unknown"


def beside_profile(certificate: x509.Certificate, uuid: str) -> list[str]:
    """How a certificate differs from the device profile, in words."""
    found: list[str] = []
    wanted = device_name(uuid, FACTORY, production=False)
    if certificate.subject != wanted:
        subject = ", ".join(attribute.rfc4514_attribute_name for attribute in certificate.subject)
        found.append(f"subject {subject}")
    right: dict[x509.ObjectIdentifier, tuple[bool, x509.ExtensionType | None]] = {
        x509.KeyUsage.oid: (True, key_usage(DEVICE)),
        x509.ExtendedKeyUsage.oid: (True, x509.ExtendedKeyUsage(DEVICE.extended_key_usage)),
        x509.SubjectKeyIdentifier.oid: (False, None),
        x509.AuthorityKeyIdentifier.oid: (False, None),
    }
    for extension in certificate.extensions:
        name = extension.oid._name  # the only place where the library has the names
        if extension.oid not in right:
            found.append(f"{name} besides")
            continue
        critical, value = right.pop(extension.oid)
        if value is not None and extension.value != value:
            found.append(f"{name} allows more")
        if extension.critical is not critical:
            found.append(f"{name} {'' if extension.critical else 'not '}critical")
    return [*found, *(f"no {oid._name}" for oid in right)]


def _twice(peer: Peer, parent: Path, pki: Path, uuid: str) -> str:
    with prepared(peer, parent, pki) as folder:
        return "refused" if folder.start([uuid, uuid]).wait() else "issued twice"


def probe_requests(uuid: str) -> dict[str, bytes]:
    """CSRs in PEM: `good` one, and by what is wrong with them two others."""
    name = device_name(uuid, FACTORY, production=False)
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    good = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    other = builder.sign(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256())
    der = bytearray(good.public_bytes(Encoding.DER))
    der[-1] ^= 1  # the last octet of the signature's s
    broken = x509.load_der_x509_csr(bytes(der))
    return {
        "good": good.public_bytes(Encoding.PEM),
        "broken signature": broken.public_bytes(Encoding.PEM),
        "P-384 key": other.public_bytes(Encoding.PEM),
    }


def _requests(peer: Peer, parent: Path, pki: Path) -> str:
    if not peer.sign:
        return ""
    found = []
    for kind, pem in probe_requests("f6fadfa7-e5c1-4b62-9362-da5cc13da58a").items():
        with prepared(peer, parent, pki) as folder:
            request = folder.path / "request.csr"
            request.write_bytes(pem)
            # An exit code says little: easy-rsa ends with 0 and an empty file when it has refused.
            signed = not folder.shell(peer.sign, csr=str(request)) and _is_certificate(folder.path / "signed.pem")
            if kind != "good":
                found.append(f"{kind} {'signed' if signed else 'refused'}")
            elif not signed:
                raise RunFailedError(f"{peer.name} does not sign a good CSR: {folder.last_words()}")
    return ", ".join(found)


def _is_certificate(path: Path) -> bool:
    try:
        return bool(x509.load_pem_x509_certificate(path.read_bytes()))
    except (OSError, ValueError):
        return False


def _killed(peer: Peer, parent: Path, pki: Path, uuids: Sequence[str]) -> str:
    """Kill it when half of the certificates are there, then start it again with the same list."""
    with prepared(peer, parent, pki) as folder:
        process = folder.start(uuids)
        half, deadline = folder.certificate(uuids[len(uuids) // 2]), monotonic() + _PATIENCE
        while not half.exists() and process.poll() is None and monotonic() < deadline:
            sleep(0.001)
        if process.poll() is not None:
            raise RunFailedError(f"{peer.name} ended before it could be killed: {folder.last_words()}")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        before = {uuid: octets for uuid in uuids if (octets := _octets(folder.certificate(uuid)))}
        code = folder.start(uuids).wait()
        replaced = sum(_octets(folder.certificate(uuid)) != octets for uuid, octets in before.items())
        missing = sum(not _octets(folder.certificate(uuid)) for uuid in uuids)
    return after_kill(code, replaced, missing)


def after_kill(code: int, replaced: int, missing: int) -> str:
    """What a second start did, in words.

    Args:
        code: its exit code.
        replaced: certificates that were there before and are others now.
        missing: devices without one.
    """
    if replaced:
        return "makes all anew"
    if missing:
        return "stops at the first that is there" if code else "leaves some without"
    return "goes on"


def _octets(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _syncs(peer: Peer, parent: Path, pki: Path, uuids: Sequence[str]) -> int | None:
    if shutil.which("strace") is None:
        return None
    with prepared(peer, parent, pki) as folder:
        trace = folder.path / "trace"
        if folder.start(uuids, ("strace", "-f", "-qq", "-e", f"trace={SYNC_CALLS}", "-o", str(trace))).wait():
            return None  # a container may forbid it
        return count_syncs(trace)


def count_syncs(trace: Path) -> int:
    """The finished calls in what strace wrote."""
    lines = trace.read_text("utf-8", "replace").splitlines()
    return sum("(" in line and "resumed" not in line and "+++" not in line and "---" not in line for line in lines)
