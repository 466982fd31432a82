"""What a user asks of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.minting.keys import AUTO
from batch_issuer.scratch import DEFAULT_MEMORY

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.cluster.options import ClusterOptions
    from batch_issuer.stores.address import StoreAddress

__all__ = ["RunRequest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """The options of `batch-issuer issue`.

    Attributes:
        manifest: CSV or Parquet, a file or an object in a store; None reads CSV from standard input.
        pki: the PKI directory.
        ca_name: the device CA in it.
        out: the output folder.
        prefix: a prefix in an object store, which takes the output in place of a folder; None for none.
        scratch: a folder for parts on their way into a store; None takes one below the system's for temporary files.
        ledger: the ledger across runs; None for none.
        reissue: issue devices that the ledger knows to be issued.
        sign_with: the signer of the output in the PKI directory; None leaves it unsigned.
        format: how bundles are stored.
        p12_passwords: of format p12, `run` for one password given, `device` for one made for each device.
        seal_to: age recipients that each part is encrypted to, before it is written; empty leaves them unsealed.
        workers: processes.
        key_engine: what makes keys, and signs if the CA's key is in a file; `auto` is the fastest that is installed.
            Like the number of workers it is no part of what is asked: all give the same, and a resume may take another.
        cluster: the Dask cluster whose workers make the parts; None for `workers` processes of this machine.
        worker_ca: how a cluster's workers come by the CA's key: `channel`, `path` or `token`.
        worker_secret_file: where they find its passphrase or PIN, for `path` and `token`.
        part_size: devices per part.
        plan_memory: octets that the plan takes for what it must know of all rows; the rest goes into files.
        days: validity, clamped to the CA's.
        backdate: seconds that notBefore lies back, never before the CA's.
        production: whether devices are of production unless their row says otherwise.
        hardware_id: for `sota.toml`, of devices whose row names none.
        tag: the same.
        gateway: host or host:port; None takes it from `tls-crt`.
        ostree: the same.
        device_hsm: `sota.toml` is for devices whose key is in an HSM of their own; every row must bring a CSR.
        device_hsm_module: the path of its PKCS#11 module, on the device.
        skip_rejects: go on without rejected rows.
        lint: ask pkilint about the run's first certificate before any is made, if it is installed. No part of what a
            run is: a resume may ask otherwise.
        resume: go on where a run stopped.
        manifest_format: of the output manifest; None is the input's.
        with_certificates: add `certificate_pem` to it.
        spreadsheet_safe: neutralise formulas in its CSV.
        report: write `report.html` at the end.
    """

    manifest: Path | StoreAddress | None
    pki: Path
    ca_name: str = "local-ca"
    out: Path
    prefix: StoreAddress | None = None
    scratch: Path | None = None
    ledger: Path | None = None
    reissue: bool = False
    sign_with: str | None = None
    format: str = "dir"
    p12_passwords: str | None = None
    seal_to: tuple[str, ...] = ()
    workers: int
    key_engine: str = AUTO
    cluster: ClusterOptions | None = None
    worker_ca: str = "channel"
    worker_secret_file: Path | None = None
    part_size: int = 5000
    plan_memory: int = DEFAULT_MEMORY
    days: int = 7300
    backdate: int = 3600
    production: bool = False
    hardware_id: str | None = None
    tag: str | None = None
    gateway: str | None = None
    ostree: str | None = None
    device_hsm: bool = False
    device_hsm_module: str | None = None
    skip_rejects: bool = False
    lint: bool = False
    resume: bool = False
    manifest_format: str | None = None
    with_certificates: bool = False
    spreadsheet_safe: bool = False
    report: bool = True

    @property
    def manifest_name(self) -> str:
        """What to call the manifest."""
        return "-" if self.manifest is None else self.manifest.name
