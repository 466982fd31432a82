"""The lease on a prefix: at most one run goes on there, on whatever machine.

A folder has a lock that the kernel lets go of. A store has none: so a run puts an object with its own id, renews it
while it lives, and deletes it when it ends. Who finds one that was not renewed for long takes it over, by a put that
succeeds only if it is still the same object. What is long is told by the store's clock alone.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

from batch_issuer.errors import OutputError, RunFailedError, StoreError

if TYPE_CHECKING:
    from datetime import datetime

    from batch_issuer.stores.store import Store

__all__ = ["LEASE", "Lease", "check_owner"]

LEASE = ".run/lease.json"

_RENEW_SECONDS = 20
_STALE_SECONDS = 90
"""Four renewals missed: a run is taken for dead. One that was only asleep finds at its next step that it lost."""


class Lease:
    """One run's lease; a thread renews it until it is released.

    Args:
        store: with the prefix.
        owner: the run's own id, which no other run has.
        dead: the ids of earlier runs that are known to be dead.

    Raises:
        OutputError: another run has it.
        StoreError: the store fails.
    """

    def __init__(self, store: Store, owner: str, *, dead: frozenset[str] = frozenset()) -> None:
        self._store = store
        self._owner = owner
        self._beats = 0
        self._turn = threading.Lock()
        self._end = threading.Event()
        self._take(dead)
        self._thread = threading.Thread(target=self._renew_for_ever, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Renew it now: what follows may be done only by the run that has it.

        Raises:
            RunFailedError: another run took it over.
            StoreError: the store fails.
        """
        with self._turn:
            found = self._store.read(LEASE)
            if found is None or _owner(found[0]) != self._owner:
                raise _lost(self._store)
            if not self._store.put_over(LEASE, self._content(), found[1].version):
                raise _lost(self._store)

    def release(self) -> bool:
        """Give it up, if it is still this run's; False if the store fails just now, and leaves it to grow old."""
        self._end.set()
        self._thread.join()
        try:
            found = self._store.get(LEASE)
            if found is not None and _owner(found) == self._owner:
                self._store.delete([LEASE])
        except (StoreError, OSError):
            return False
        return True

    def _take(self, dead: frozenset[str]) -> None:
        while not self._store.put_new(LEASE, self._content()):
            found = self._store.read(LEASE)
            if found is None:
                continue  # released just now
            content, stored = found
            if _owner(content) not in dead:
                age = (self._now() - stored.modified).total_seconds()
                if age < _STALE_SECONDS:
                    used = f"the output folder {self._store.address} is in use by another run"
                    raise OutputError(
                        f"{used}: its lease was renewed {age:.0f} s ago",
                        hint=f"wait for it to end; {_STALE_SECONDS} s after it was killed, --resume takes over",
                    )
            if self._store.put_over(LEASE, self._content(), stored.version):
                return

    def _now(self) -> datetime:
        """What the store's clock says."""
        name = f".run/clock-{self._owner}"
        self._store.put(name, b"")
        found = self._store.read(name)
        self._store.delete([name])
        if found is None:
            raise StoreError(f"{self._store.address} does not keep what is put there")
        return found[1].modified

    def _content(self) -> bytes:
        self._beats += 1  # no two of its contents are the same
        return json.dumps({"owner": self._owner, "beat": self._beats}).encode()

    def _renew_for_ever(self) -> None:
        while not self._end.wait(_RENEW_SECONDS):
            try:
                self.check()
            except RunFailedError:
                return  # the run finds it at its next step
            except (StoreError, OSError):
                continue  # it may answer again before the lease is old


def check_owner(store: Store, owner: str) -> None:
    """Whether the run `owner` still has the lease of the prefix.

    Raises:
        RunFailedError: another run took it over, or finished.
    """
    found = store.get(LEASE)
    if found is None or _owner(found) != owner:
        raise _lost(store)


def _lost(store: Store) -> RunFailedError:
    """What a run ends with that lost its lease."""
    return RunFailedError(
        f"another run has taken {store.address} over: this one was not heard of for {_STALE_SECONDS} s",
        hint="leave it to that one",
    )


def _owner(content: bytes) -> str | None:
    try:
        return str(json.loads(content)["owner"])
    except (ValueError, TypeError, KeyError):
        return None  # of no run that lives; it grows old as any
