"""A disk that loses what was not synced: a recording layer under a run, and the states a power cut can leave of it.

The model is stricter than any journalling file system. What a file holds is on the disk when the file was fsynced, and
else old, whole, cut off or zeros. A change of names is on the disk when a folder that it touches was fsynced, and else
on it or not, whatever came before or after it; only changes of the same name, and the removal of a folder after what
emptied it, keep their order. With `ordered`, names reach the disk in the order of the changes, as ext4's journal has
it, while contents still may not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faults import FileOperations

if TYPE_CHECKING:
    from random import Random


@dataclass(eq=False)
class Node:
    """A file or a folder, whatever its names are."""

    fd: int | None
    mode: int
    synced: bytes = b""
    names: dict[str, Node] = field(default_factory=dict)

    def content(self) -> bytes:
        assert self.fd is not None
        return os.pread(self.fd, os.fstat(self.fd).st_size, 0)


@dataclass(eq=False)
class Change:
    """One change of names: each a folder, a name in it, and what has it from now on."""

    steps: list[tuple[Node, str, Node | None]]
    gone: Node | None = None
    durable: bool = False


class Disk(FileOperations):
    """Records what a run makes of the folder `root`, and what of it is durable."""

    def __init__(self, root: Path, **options: Any) -> None:
        super().__init__(root, **options)
        self.top = Node(None, 0o700)
        self.changes: list[Change] = []

    def _find(self, path: str) -> tuple[Node, str]:
        *folders, name = Path(path).relative_to(self._root).parts
        node = self.top
        for folder in folders:
            node = node.names[folder]
        return node, name

    def _change(self, *steps: tuple[Node, str, Node | None], gone: Node | None = None) -> None:
        self.changes.append(Change(list(steps), gone))
        for folder, name, node in steps:
            if node is None:
                folder.names.pop(name)
            else:
                folder.names[name] = node

    def done(self, name: str, paths: tuple[str, ...]) -> None:
        if name == "syncfs":
            self._sync_all()
        elif paths[0] == self._root:
            if name == "fsync":
                self._sync(self.top)
        elif name in {"open", "mkdir", "unlink", "rmdir", "rename", "link"}:
            getattr(self, f"_{name}")(*map(self._find, paths))
        elif name == "fsync":
            folder, last = self._find(paths[0])
            self._sync(folder.names[last])

    def _open(self, at: tuple[Node, str]) -> None:
        if at[1] not in at[0].names:
            path = self._path(at)
            fd = self._real["open"](path, os.O_RDONLY)
            self._change((*at, Node(fd, os.fstat(fd).st_mode & 0o777)))

    def _mkdir(self, at: tuple[Node, str]) -> None:
        self._change((*at, Node(None, 0o700)))

    def _unlink(self, at: tuple[Node, str]) -> None:
        self._change((*at, None))

    def _rmdir(self, at: tuple[Node, str]) -> None:
        self._change((*at, None), gone=at[0].names[at[1]])

    def _rename(self, source: tuple[Node, str], target: tuple[Node, str]) -> None:
        self._change((*target, source[0].names[source[1]]), (*source, None))

    def _link(self, source: tuple[Node, str], target: tuple[Node, str]) -> None:
        self._change((*target, source[0].names[source[1]]))

    def _path(self, at: tuple[Node, str]) -> str:
        def found(folder: Node, path: Path) -> Path | None:
            if folder is at[0]:
                return path / at[1]
            inner = (found(node, path / name) for name, node in folder.names.items() if node.fd is None)
            return next(filter(None, inner), None)

        return str(found(self.top, Path(self._root)))

    def _sync(self, node: Node) -> None:
        if node.fd is not None:
            node.synced = node.content()
            return
        for change in self.changes:
            if not change.durable and any(folder is node for folder, _, _ in change.steps):
                self._force(change)

    def _force(self, change: Change) -> None:
        """It is on the disk, and so is what it cannot be there without."""
        for one in self._with_needed({id(change)}):
            one.durable = True

    def _sync_all(self) -> None:
        for change in self.changes:
            change.durable = True
            for _, _, node in change.steps:
                if node is not None and node.fd is not None:
                    node.synced = node.content()

    def _with_needed(self, wanted: set[int]) -> list[Change]:
        """The changes, in their order, with the earlier ones that they need."""
        chosen: list[Change] = []
        places: set[tuple[int, str]] = set()
        emptied: set[int] = set()
        for change in reversed(self.changes):
            own = {(id(folder), name) for folder, name, _ in change.steps}
            if id(change) in wanted or own & places or any(folder in emptied for folder, _ in own):
                chosen.append(change)
                places |= own
                if change.gone is not None:
                    emptied.add(id(change.gone))
        return chosen[::-1]

    def write_state(self, target: Path, random: Random, kind: str) -> None:
        """Write what a power cut now could leave to a new folder: `least`, `ordered` or `any`."""
        if kind == "ordered":
            last = max((place for place, change in enumerate(self.changes) if change.durable), default=-1)
            applied = self.changes[: random.randint(last + 1, len(self.changes))]
        else:
            more = (change for change in self.changes if kind == "any" and random.random() < random.choice((0.1, 0.9)))
            wanted = {id(change) for change in self.changes if change.durable} | {id(change) for change in more}
            applied = self._with_needed(wanted)
        names: dict[int, dict[str, Node]] = {}
        for change in applied:
            for folder, name, node in change.steps:
                entries = names.setdefault(id(folder), {})
                if node is None:
                    entries.pop(name, None)
                else:
                    entries[name] = node
        self._write(self.top, target, names, random, least=kind == "least")

    def _write(
        self, folder: Node, target: Path, names: dict[int, dict[str, Node]], random: Random, *, least: bool
    ) -> None:
        target.mkdir(mode=folder.mode)
        for name, node in names.get(id(folder), {}).items():
            if node.fd is None:
                self._write(node, target / name, names, random, least=least)
                continue
            now = node.content()
            cut = random.randint(0, len(now))
            octets = node.synced if least else random.choice((node.synced, now, now[:cut], bytes(len(now))))
            (target / name).write_bytes(node.synced if now == node.synced else octets)
            (target / name).chmod(node.mode)
