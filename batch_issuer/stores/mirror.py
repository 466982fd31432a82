"""Objects of a prefix as files, for as long as they are read: in a private folder of this machine, gone after it."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from batch_issuer.errors import BundleError
from batch_issuer.files import PRIVATE_MODE, make_directories
from batch_issuer.stores.opening import open_store
from batch_issuer.sums import BUNDLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batch_issuer.stores.address import StoreAddress

__all__ = ["Mirror", "open_mirror"]


@contextmanager
def open_mirror(address: StoreAddress, scratch: Path | None) -> Iterator[Mirror]:
    """A mirror in a new folder of mode 0700, which is removed at the end, however that comes but by a kill.

    Args:
        address: of the prefix.
        scratch: where the folder is made; None for the system's place for temporary files.
    """
    path = Path(tempfile.mkdtemp(prefix="batch-issuer-read-", dir=scratch))
    try:
        yield Mirror(address, path)
    finally:
        shutil.rmtree(path)


class Mirror:
    """Copies of some of a prefix's objects.

    Args:
        address: of the prefix.
        path: the folder, which must be there.
    """

    def __init__(self, address: StoreAddress, path: Path) -> None:
        self.store = open_store(address)
        self.path = path

    def take(self, name: str, mode: int) -> bool:
        """Copy an object, if it is there; whether it is.

        Raises:
            StoreError: the store refuses or fails.
        """
        return self.store.fetch(name, self._place(name), mode)

    def take_below(self, folder: str, modes: Mapping[str, int]) -> None:
        """Copy all objects of a folder, several at once.

        Args:
            folder: below the prefix.
            modes: of files by their last names, since a store has none; 0600 for any other.

        Raises:
            BundleError: one has a name that cannot be a file's.
            StoreError: the store refuses or fails.
        """
        names = list(self.store.names(folder))
        self.store.fetch_all(
            (name, self._place(name), modes.get(name.rpartition("/")[2], PRIVATE_MODE)) for name in names
        )

    @contextmanager
    def bundles(self, location: str, modes: Mapping[str, int] | None = None) -> Iterator[Path]:
        """The bundles folder with what is at one location in it, removed at the end.

        Args:
            location: below the bundles folder, checked before.
            modes: of the files of the folder that is there, as `take_below`; None for one object.
        """
        name = f"{BUNDLES}/{location}"
        try:
            if modes is not None:
                self.take_below(name, modes)
            else:
                self.store.fetch(name, self._place(name))
            yield self.path / BUNDLES
        finally:
            if modes is not None:
                shutil.rmtree(self.path / name, ignore_errors=True)
            else:
                (self.path / name).unlink(missing_ok=True)

    def _place(self, name: str) -> Path:
        parts = name.split("/")
        if any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise BundleError(f"{self.store.address} has an object {name!r}, which no run puts there")
        path = self.path.joinpath(*parts)
        while not path.parent.is_dir():
            try:
                make_directories(path.parent)
            except FileExistsError:  # made by another worker just now; or a file has the name, which fails below
                if os.path.lexists(path.parent) and not path.parent.is_dir():
                    raise BundleError(f"{self.store.address} has an object and a folder of one name") from None
        return path
