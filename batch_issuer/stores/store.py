"""The objects under one prefix of an object store: whole or not there, the first one wins where that is asked.

A store has no rename, and an answer can be lost after the store has done what it was asked. So who wins a conditional
put is never told by the answer alone: an object that is there is read, and is ours if it has our octets.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import from_url

from batch_issuer.errors import StoreError
from batch_issuer.files import PRIVATE_MODE, create_file, write_all
from batch_issuer.stores.endpoint import client_options
from batch_issuer.stores.telling import telling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from obstore.store import RetryConfig

    from batch_issuer.files import Octets
    from batch_issuer.stores.address import StoreAddress

__all__ = ["Store", "Stored"]

_TRIES = 5
"""Of a conditional put whose answer was lost and which was not done; obstore's own tries are within each."""

_WHOLE = 256 << 20
"""Octets up to which an object is put by one request: what a broken upload in pieces leaves behind is not listed, stays
until the bucket's rules remove it, and has private keys in it."""

_AT_ONCE = 24
"""Requests at once where many small objects go the same way."""

_PIECE = 8 << 20

_RETRY_FOR = timedelta(minutes=3)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store says of an object.

    Attributes:
        name: below the prefix.
        octets: its size.
        modified: when it was put, by the store's clock, in whole seconds.
        version: what a conditional put asks for.
    """

    name: str
    octets: int
    modified: datetime
    version: dict[str, Any]


class Store:
    """Objects below one prefix.

    Every method raises StoreError when the store refuses, fails or cannot be reached.

    Args:
        address: with the prefix that all names are below.
        retries: how often a request is made again that was answered by 5xx or lost; the pauses grow to 15 s.

    Raises:
        RefusedError: the environment names an endpoint that is not to be used.
    """

    def __init__(self, address: StoreAddress, *, retries: int = 10) -> None:
        self.address = address
        options: Any = client_options(address.scheme)
        retry: RetryConfig = {"max_retries": retries, "retry_timeout": _RETRY_FOR}
        with telling(address, "find what the environment names"):
            self._store = from_url(str(address), client_options=options, retry_config=retry)

    def get(self, name: str) -> bytes | None:
        """An object's octets; None if it is not there."""
        found = self.read(name)
        return None if found is None else found[0]

    def has(self, name: str) -> bool:
        """Whether an object is there."""
        try:
            with telling(self.address, f"look for {name}"):
                obstore.head(self._store, name)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str) -> tuple[bytes, Stored] | None:
        """An object's octets with what the store says of it; None if it is not there."""
        try:
            with telling(self.address, f"read {name}"):
                answer = obstore.get(self._store, name)
                return bytes(answer.bytes()), _stored(answer.meta)
        except FileNotFoundError:
            return None

    def fetch(self, name: str, path: Path, mode: int = PRIVATE_MODE) -> bool:
        """Copy an object into a new file of that mode; False if it is not there.

        Raises:
            OSError: the file cannot be written.
        """
        fd = create_file(path, mode)
        try:
            there = self.copy(name, fd)
        finally:
            os.close(fd)
        if not there:
            path.unlink()
        return there

    def fetch_all(self, files: Iterable[tuple[str, Path, int]]) -> None:
        """Copy many objects into new files of these modes, some at once.

        Raises:
            OSError: a file cannot be written.
        """
        _at_once(self.fetch, files)

    def copy(self, name: str, fd: int) -> bool:
        """Write an object into an open file; False if it is not there.

        Raises:
            OSError: as write(2).
        """
        try:
            with telling(self.address, f"read {name}"):
                answer = obstore.get(self._store, name)
                pieces = iter(answer.stream(min_chunk_size=_PIECE))
            while True:
                with telling(self.address, f"read {name}"):
                    piece = next(pieces, None)
                if piece is None:
                    return True
                write_all(fd, memoryview(piece))
        except FileNotFoundError:
            return False

    def put(self, name: str, content: Octets | Path) -> None:
        """Put an object, in the place of any that is there."""
        whole = (len(content) if not hasattr(content, "stat") else content.stat().st_size) <= _WHOLE
        with telling(self.address, f"write {name}"):
            obstore.put(self._store, name, content, use_multipart=not whole)

    def put_all(self, files: Iterable[tuple[str, Path]]) -> None:
        """Put many small objects, some at once."""
        _at_once(self.put, files)

    def put_new(self, name: str, content: Octets) -> bool:
        """Put an object unless one is there; whether it is this one that is there.

        Args:
            name: below the prefix.
            content: octets that nobody else puts there, since by them a lost answer is told from a lost race.
        """
        return self._put_if(name, content, "create")

    def put_over(self, name: str, content: Octets, version: dict[str, Any]) -> bool:
        """Put an object in the place of that version of it; whether it is this one that is there.

        Args:
            name: below the prefix.
            content: as `put_new`.
            version: the one that it replaces.
        """
        return self._put_if(name, content, version)

    def _put_if(self, name: str, content: Octets, mode: Any) -> bool:
        for left in reversed(range(_TRIES)):
            try:
                with telling(self.address, f"write {name}"):
                    try:
                        obstore.put(self._store, name, content, mode=mode, use_multipart=False)
                    except (AlreadyExistsError, PreconditionError):
                        return self.get(name) == content
                    return True
            except FileNotFoundError:  # the version to be replaced is gone
                return False
            except StoreError as error:
                there = None if error.refused else self.get(name)
                if there == content:
                    return True
                if error.refused or not left:
                    raise
        raise AssertionError("unreachable")

    def names(self, below: str = "") -> Iterator[str]:
        """The names of all objects, or of those in a folder, in the store's order."""
        return (stored.name for stored in self.list(below))

    def list(self, below: str = "") -> Iterator[Stored]:
        """All objects, or those in a folder."""
        with telling(self.address, "list what is there"):
            pieces = iter(obstore.list(self._store, below or None, chunk_size=1000))
        while True:
            with telling(self.address, "list what is there"):
                piece = next(pieces, None)
            if piece is None:
                return
            yield from map(_stored, piece)

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; one that is not there is none to be deleted."""
        gone = list(names)
        if gone:
            with telling(self.address, f"delete {gone[0]}"):
                obstore.delete(self._store, gone)


def _at_once(request: Callable[..., object], arguments: Iterable[tuple[Any, ...]]) -> None:
    """Make many requests, some of them at once; after one that fails no more are begun.

    Args:
        request: the method.
        arguments: of each.

    Raises:
        Exception: the first that a request raised.
    """
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        for done in [pool.submit(request, *each) for each in arguments]:
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _stored(meta: Any) -> Stored:
    version = {name: meta[name] for name in ("e_tag", "version") if meta[name] is not None}
    return Stored(meta["path"], meta["size"], meta["last_modified"], version)
