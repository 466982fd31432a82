"""The factory's TUF root document, version 1: made once with keys of its own, the same octets for ever after.

It is a real one (The Update Framework's specification 1.0, section 4.3), so that what a device does with it is
rehearsed; there are no targets behind it.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined] # public, and not marked as such
from tuf.api.metadata import TOP_LEVEL_ROLE_NAMES, Metadata, Root  # type: ignore[attr-defined] # likewise
from tuf.api.serialization.json import JSONSerializer

from batch_issuer.authority.layout import FILE_MODE
from batch_issuer.files import PUBLIC_MODE, make_directory, sync_directory, write_new
from batch_issuer.profiles import years_after

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["root_document"]

_YEARS = 20
"""Calendar years until it expires: as long as the PKI's root."""


def root_document(folder: Path, now: datetime) -> bytes:
    """The document that `folder` keeps; made with its keys, one for each role, if it is not there.

    Raises:
        OSError: it cannot be read or made.
    """
    path = folder / "1.root.json"
    if path.exists():
        return path.read_bytes()
    if folder.exists():
        shutil.rmtree(folder)  # keys of a document that was not finished
    make_directory(folder)
    root = Root(version=1, expires=years_after(now.replace(microsecond=0), _YEARS).astimezone(UTC))
    signers = {role: CryptoSigner.generate_ed25519() for role in sorted(TOP_LEVEL_ROLE_NAMES)}
    for role, signer in signers.items():
        root.add_key(signer.public_key, role)
        write_new(folder / f"{role}.key", [signer.private_bytes], FILE_MODE)
    metadata = Metadata(root)
    metadata.sign(signers[Root.type])
    octets = metadata.to_bytes(JSONSerializer(compact=False))
    sync_directory(folder)
    write_new(path, [octets], PUBLIC_MODE)  # last: it says that the keys are there
    sync_directory(folder)
    sync_directory(folder.parent)
    return octets
