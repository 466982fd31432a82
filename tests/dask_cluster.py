"""A Dask cluster that stays: two worker processes behind TLS, until its standard input ends.

Usage: dask_cluster.py FOLDER with ca.pem, cert.pem, key.pem; prints the scheduler's address and the workers' ids.
"""

from __future__ import annotations

import sys
from pathlib import Path

from distributed import LocalCluster
from distributed.security import Security


def main() -> None:
    folder = Path(sys.argv[1])
    files = {"tls_ca_file": folder / "ca.pem"}
    for role in ("client", "scheduler", "worker"):
        files |= {f"tls_{role}_cert": folder / "cert.pem", f"tls_{role}_key": folder / "key.pem"}
    security = Security(require_encryption=True, **{name: str(path) for name, path in files.items()})
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        memory_limit=0,
        dashboard_address=None,
        security=security,
        local_directory=str(folder / "scratch"),
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
