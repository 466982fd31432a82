"""Runs a small run in this process, records its file operations, and says where one was not durable in time.

Usage: durability.py FORMAT PKI FOLDER [FLAW]; prints a JSON list of sentences. FLAW: no-fsync, or
no-folder-sync: of the folder that attempts are in.

The rules, each about the order of operations: a file is fsynced (or its file system synced) after its last write and
before it is renamed, linked or its part committed, and so is the folder that an attempt's folder was made in; the
commits folder is fsynced after a commit and before the part's bundles are renamed into place; the bundles folder is
fsynced before the output manifest appears.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from crash_matrix import request, run
from faults import FileOperations, Operation, run_inline

from batch_issuer.batch import folder_home


def main() -> None:
    bundle_format, pki, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    run_inline()
    uuids = [f"00000000-0000-4000-8000-{i:012d}" for i in range(7)]
    (folder / "devices.csv").write_text("device_uuid\n" + "\n".join(uuids) + "\n")
    operations = FileOperations(folder / "out")
    operations.install()
    if "no-fsync" in sys.argv:
        os.fsync = lambda fd: None  # noqa: ARG005 - the call is gone, not only its effect
    if "no-folder-sync" in sys.argv:
        vars(folder_home)["sync_directory"] = lambda path: None  # noqa: ARG005 - the same
    run(request(bundle_format, pki, folder, folder / "out"))
    print(json.dumps(faults(operations.seen)))


def faults(seen: list[Operation]) -> list[str]:
    """What was not durable when it should have been."""
    found = []
    written: dict[str, int] = {}
    synced: dict[str, int] = {}
    for at, operation in enumerate(seen):
        path = operation.paths[0]
        if operation.name == "write":
            written[path] = at
        elif operation.name == "fsync":
            synced[path] = at
        elif operation.name == "syncfs":
            synced |= dict.fromkeys(written, at)  # whatever was written to the file system
        elif operation.name in {"rename", "link"}:
            found += _rename_faults(operation, written, synced, at)
        elif operation.name in {"mkdir", "open"} and "/staging/" in path and Path(path).stem != "commit":
            written[str(Path(path).parent)] = at
    return found


def _rename_faults(operation: Operation, written: dict[str, int], synced: dict[str, int], at: int) -> list[str]:
    source, target = operation.paths
    if target.endswith(".run.gone"):
        return []  # the finished run's own folder, on its way out
    found = [
        f"{name} is renamed or published before it is durable"
        for name in written
        if (name == source or name.startswith(source + "/")) and synced.get(name, -1) < written[name]
    ]
    if "/commits/" in target:
        part = Path(target).stem
        staged = [name for name in written if f"/staging/{part}." in name or name.endswith("/staging")]
        found += [
            f"{part} is committed before {name} is durable" for name in staged if synced.get(name, -1) < written[name]
        ]
        written[target] = at
    if "/bundles/" in target:
        folder = next((name for name in synced if name.endswith("/commits")), "")
        last = max((at for name, at in written.items() if "/commits/" in name), default=-1)
        if synced.get(folder, -1) < last or last < 0:
            found.append(f"{target} is published before its commit is durable")
        written[str(Path(target).parent)] = at
    if Path(target).name.startswith("manifest."):
        bundles = str(Path(target).parent / "bundles")
        if synced.get(bundles, -1) < written.get(bundles, 0):
            found.append("the manifest appears before the bundles' names are durable")
    return found


if __name__ == "__main__":
    main()
