"""Taking a prefix in an object store for one run: fit for it, and no other run's."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from batch_issuer.batch.claim import Claim
from batch_issuer.errors import OutputError, StoreError
from batch_issuer.files import PRIVATE_MODE, replace_file
from batch_issuer.output.folder import OutputFolder
from batch_issuer.stores.lease import LEASE, Lease

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from batch_issuer.stores.store import Store

__all__ = ["StoreHold", "check_prefix", "owner_of"]

_OWNERS = "owners"


def check_prefix(store: Store, *, resume: bool) -> bool:
    """Whether the prefix holds a run that `resume` can go on with.

    Raises:
        OutputError: it holds something else, or a run and `resume` is off.
        StoreError: the store refuses or fails.
    """
    layout = OutputFolder(Path())
    if store.has(layout.record.name):
        if resume:
            return True
        state = "a finished run" if store.has(layout.summary.name) else "an unfinished run"
        raise OutputError(
            f"the output folder {store.address} holds {state}", hint="--resume goes on with it, or take another --out"
        )
    stranger = next((name for name in store.names() if not name.startswith(f"{layout.work.name}/")), None)
    if stranger is not None:
        raise OutputError(
            f"the output folder {store.address} is not empty: it holds {stranger!r}",
            hint="take a new or empty prefix for --out",
        )
    return False


def owner_of(folder: OutputFolder) -> str:
    """The id, in the lease, of the run that has this scratch folder."""
    return _owners(folder)[-1]


def _owners(folder: OutputFolder) -> list[str]:
    """The ids of the runs that had this scratch folder, the last one last: who has its lock is alive alone."""
    try:
        return (folder.work / _OWNERS).read_text().split()
    except FileNotFoundError:
        return []


class StoreHold:
    """One run's hold on its prefix and its scratch folder; a `Hold`.

    The scratch folder's lock shows that a run of this machine is dead; the lease's age shows it of others.

    Args:
        store: with the prefix.
        folder: the scratch folder.
        resume: whether a run that is there may be gone on with.
        notify: told, in a sentence, what is waited for.

    Raises:
        OutputError: the prefix is not fit, or in use.
        StoreError: the store refuses or fails.
    """

    def __init__(self, store: Store, folder: OutputFolder, *, resume: bool, notify: Callable[[str], None]) -> None:
        check_prefix(store, resume=resume)
        self._store = store
        self._folder = folder
        self._lease: Lease | None = None
        self._claim = Claim(folder, resume=False, notify=notify, shown=str(store.address))
        try:
            with self._claim.alone():
                self._sweep()
            self._lease = self._take()
            self.resuming = check_prefix(store, resume=resume)
        except BaseException:
            self._let_go()
            raise

    def __enter__(self) -> StoreHold:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def alone(self) -> AbstractContextManager[None]:
        """No worker of this machine is at a part; those of others find at their next step that they lost the lease."""
        return self._claim.alone()

    def abandon(self) -> None:
        """Leave the prefix as it was before: the run was refused and nothing was made."""
        if self.resuming:
            return
        with suppress(StoreError):  # what it failed by is told already; who plans next here finds the note
            self._store.delete([str(self._folder.ledger_run.relative_to(self._folder.path))])

    def finish(self) -> None:
        """Delete the run's own objects; the lease is the last."""
        if self._lease is not None:
            self._lease.check()
        self._store.delete(name for name in self._store.names(self._folder.work.name) if name != LEASE)

    def _sweep(self) -> None:
        """What a killed run of this machine left in the scratch folder: parts on their way, with keys."""
        for left in (self._folder.staging, self._folder.plan, self._folder.spool):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)

    def _take(self) -> Lease:
        dead = _owners(self._folder)
        owner = uuid.uuid4().hex
        # Known here before it is in the store: a kill in between leaves a lease that the next run knows to be dead.
        ids = "\n".join([*dead, owner]).encode()
        replace_file(self._folder.work / _OWNERS, [ids], PRIVATE_MODE, scratch=self._folder.work)
        return Lease(self._store, owner, dead=frozenset(dead))

    def _let_go(self) -> None:
        if self._lease is not None and self._lease.release():
            self._claim.abandon()
            self._claim.__exit__()
            with suppress(OSError):  # a killed run made it, so that the claim does not know that it may go
                os.rmdir(self._folder.path)
        else:  # a dead run's lease may be in the store: the next run here must know its id
            self._sweep()
            self._claim.__exit__()
