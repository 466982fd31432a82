"""The run that is verified, wherever it lives: its small files are in a folder, its bundles are fetched by who checks.

Of a run in an object store the folder is a copy that is made for this one verification. It has every name that is
there, so that nothing unknown is overlooked; what no run puts there is an empty file of that name and is not fetched.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batch_issuer.files import DIRECTORY_MODE, PRIVATE_MODE, PUBLIC_MODE, create_file, make_directory
from batch_issuer.output.folder import BUNDLES, OutputFolder
from batch_issuer.stores.mirror import open_mirror

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_issuer.stores.address import StoreAddress
    from batch_issuer.stores.mirror import Mirror

__all__ = ["RunSource", "open_run"]

_SMALL = frozenset(
    {
        "run.json",
        "manifest.csv",
        "manifest.parquet",
        "rejects.csv",
        "report.html",
        "summary.json",
        "SHA256SUMS",
        "SHA256SUMS.sig",
        "registered.csv",
    }
)
_COMMITS = ".run/commits/"


@dataclass(frozen=True, slots=True)
class RunSource:
    """A run to be verified.

    Attributes:
        folder: where its small files are.
        prefix: where its bundles are fetched from; None when they are in the folder.
        names: what is in its bundles folder, of a run in a store; None when that is the folder's.
    """

    folder: OutputFolder
    prefix: StoreAddress | None = None
    names: frozenset[str] | None = None

    def bundle_names(self) -> list[bytes]:
        """What is in the bundles folder, sorted."""
        if self.names is not None:
            return sorted(map(os.fsencode, self.names))
        return sorted(os.listdir(os.fsencode(self.folder.bundles)))


@contextmanager
def open_run(out: Path | StoreAddress, scratch: Path | None = None) -> Iterator[RunSource]:
    """The run at a place, for as long as it is read.

    Args:
        out: a folder, or a prefix in a store.
        scratch: where the copies of a store's objects are; None for the system's place for temporary files.

    Raises:
        StoreError: the store refuses or fails.
    """
    if isinstance(out, Path):
        yield RunSource(OutputFolder(out.absolute()))
        return
    with open_mirror(out, scratch) as mirror:
        yield RunSource(OutputFolder(mirror.path), out, frozenset(_copy(mirror)))


def _copy(mirror: Mirror) -> Iterator[str]:
    """Copy what is small; gives the names in the bundles folder."""
    listed = mirror.store.names()
    finished = mirror.store.has("summary.json")
    for name in listed:
        above, _, rest = name.partition("/")
        if rest and above == BUNDLES:
            _folder(mirror.path / BUNDLES)
            yield rest.partition("/")[0]
        elif name in _SMALL:
            mirror.take(name, PUBLIC_MODE)
        elif name.startswith(_COMMITS) and not finished:
            mirror.take(name, PRIVATE_MODE)
        elif rest:
            _folder(mirror.path / _harmless(above))
        else:
            with suppress(FileExistsError):
                os.close(create_file(mirror.path / _harmless(name), PUBLIC_MODE))


def _harmless(name: str) -> str:
    return name if name.strip(".") else f"{name} (a name of dots)"


def _folder(path: Path) -> None:
    with suppress(FileExistsError):
        make_directory(path, DIRECTORY_MODE)
