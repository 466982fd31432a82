"""Running a peer: in a folder of its own, in as many processes as asked, with what came out judged by OpenSSL."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from batch_issuer.errors import RunFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.peers.recipes import Peer

__all__ = ["UMASK", "Folder", "judge", "prepared", "verify_chain"]

UMASK = 0o022
"""What a shell has unless somebody thought of keys."""

_AT_ONCE = 500


class Folder:
    """A peer's working folder, prepared.

    Attributes:
        peer: whose.
        path: where it is.
    """

    def __init__(self, peer: Peer, path: Path, pki: Path) -> None:
        self.peer = peer
        self.path = path
        self._environment = os.environ | {"PKI": str(pki)}

    def shell(self, script: str, **variables: str) -> int:
        """Run a script here; its exit code. What it says goes to the file `said`."""
        with (self.path / "said").open("ab") as said:
            return subprocess.run(
                ("sh", "-euc", script),
                cwd=self.path,
                env=self._environment | variables,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                umask=UMASK,
                check=False,
            ).returncode

    def start(self, uuids: Sequence[str], before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start the peer's loop for these devices, in a session of its own.

        Args:
            uuids: of the devices.
            before: words that the command is put behind.
        """
        with ExitStack() as files:
            given = files.enter_context(tempfile.TemporaryFile(dir=self.path))
            given.write("".join(f"{uuid}\n" for uuid in uuids).encode())
            given.seek(0)
            said = files.enter_context((self.path / "said").open("ab"))
            return subprocess.Popen(
                (*before, *self.peer.command),
                cwd=self.path,
                env=self._environment,
                stdin=given,
                stdout=said,
                stderr=said,
                umask=UMASK,
                start_new_session=True,
            )

    def issue(self, uuids: Sequence[str], processes: int = 1) -> float:
        """Issue for these devices; the seconds from the first process's start to the last one's end.

        Raises:
            RunFailedError: the peer failed.
        """
        shares = [share for place in range(processes) if (share := uuids[place::processes])]
        began = monotonic()
        running = [self.start(share) for share in shares]
        codes = [process.wait() for process in running]
        seconds = monotonic() - began
        if any(codes):
            raise RunFailedError(f"{self.peer.name} ended with exit codes {codes}: {self.last_words()}")
        return seconds

    def last_words(self) -> str:
        """The end of what the peer said."""
        said = (self.path / "said").read_text("utf-8", "replace")
        return " ".join(said.split())[-300:]

    def key(self, uuid: str) -> Path:
        """The file of a device's key."""
        return self.path / self.peer.key.format(uuid)

    def certificate(self, uuid: str) -> Path:
        """The file of a device's certificate."""
        return self.path / self.peer.certificate.format(uuid)


@contextmanager
def prepared(peer: Peer, parent: Path, pki: Path) -> Iterator[Folder]:
    """A new working folder for a peer, gone afterwards.

    Raises:
        RunFailedError: its setup failed.
    """
    path = Path(tempfile.mkdtemp(prefix="peer-", dir=parent))
    try:
        folder = Folder(peer, path, pki)
        if peer.setup and (code := folder.shell(peer.setup)):
            raise RunFailedError(f"the setup of {peer.name} ended with exit code {code}: {folder.last_words()}")
        yield folder
    finally:
        shutil.rmtree(path, ignore_errors=True)


def judge(folder: Folder, uuids: Sequence[str], pki: Path) -> None:
    """Have OpenSSL look at the certificates: they must chain to the factory's root, as TLS clients, for these keys.

    Raises:
        RunFailedError: a file is missing or a certificate is wrong: its maker's rate would mean nothing.
    """
    missing = [uuid for uuid in uuids if not (folder.certificate(uuid).is_file() and folder.key(uuid).is_file())]
    if missing:
        raise RunFailedError(f"{folder.peer.name} made no key or certificate for {len(missing)} devices")
    verify_chain(folder.peer.name, [folder.certificate(uuid) for uuid in uuids], pki)
    for uuid in {uuids[0], uuids[-1]}:
        of_certificate = _openssl(
            folder.peer.name, "x509", "-in", str(folder.certificate(uuid)), "-noout", "-pubkey", "-subject"
        )
        of_key = _openssl(folder.peer.name, "pkey", "-in", str(folder.key(uuid)), "-pubout")
        if of_key.strip() not in of_certificate or uuid not in of_certificate:
            raise RunFailedError(f"{folder.peer.name} made a certificate for another key or device than {uuid}")


def verify_chain(maker: str, certificates: Sequence[Path], pki: Path) -> None:
    """Have `openssl verify` look at certificates of TLS clients, up to the factory's root.

    Raises:
        RunFailedError: it refuses one.
    """
    chain = ("-CAfile", str(pki / "factory_ca.pem"), "-untrusted", str(pki / "local-ca.pem"))
    for start in range(0, len(certificates), _AT_ONCE):
        files = map(str, certificates[start : start + _AT_ONCE])
        _openssl(maker, "verify", "-purpose", "sslclient", *chain, *files)


def _openssl(maker: str, *arguments: str) -> str:
    ended = subprocess.run(("openssl", *arguments), capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RunFailedError(f"openssl {arguments[0]} refuses what {maker} made: {ended.stderr[-300:]}")
    return ended.stdout
