"""The options of a Dask cluster: which one, how it is spoken to, how its workers come by the CA's key."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from batch_issuer.cli.options import FILE

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_issuer.cluster.options import ClusterOptions

__all__ = ["cluster_options"]

_ENGINES = ("local", "dask")
_WORKER_CA = ("channel", "path", "token")
_SECRETS = {"channel": None, "path": "ca_passphrase_file", "token": "hsm_pin_file"}
"""Where a worker looks for a secret of its own, by the option whose path is the same on its machine."""

_HELP = {
    "engine": "Who makes the parts: processes of this machine, or a Dask cluster.",
    "scheduler": "Of a cluster that is there: tls://HOST:PORT, or tcp:// on this machine. "
    "Without it, the run has one of its own, with --workers processes.",
    "worker_ca": "How its workers come by the CA's key: sent by TLS; from the PKI directory at the same path; from the "
    "token, with a PIN of their own.  [default without --scheduler: channel]",
    "tls_ca_file": "What the cluster's certificates are checked with, PEM.",
    "tls_cert": "This command's certificate for the cluster, PEM.",
    "tls_key": "Its key, PEM.",
}


def cluster_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--engine` and what belongs to it; the function gets `cluster`, `worker_ca` and `worker_secret_file`."""

    @wraps(function)
    def with_cluster(*arguments: Any, **options: Any) -> Any:
        engine, worker_ca = options.pop("engine"), options.pop("worker_ca")
        given = {name: options.pop(name) for name in ("scheduler", "tls_ca_file", "tls_cert", "tls_key")}
        if engine == "local":
            for name, value in {**given, "worker_ca": worker_ca}.items():
                if value is not None:
                    raise click.UsageError(f"--{name.replace('_', '-')} is for --engine dask")
            return function(*arguments, cluster=None, worker_ca="channel", worker_secret_file=None, **options)
        if worker_ca is None:
            if given["scheduler"] is not None:
                raise click.UsageError("--scheduler needs --worker-ca: channel, path or token")
            worker_ca = "channel"
        cluster = _cluster(given, logs=options["verbose"])
        secret = options.get(_SECRETS[worker_ca] or "")
        return function(*arguments, cluster=cluster, worker_ca=worker_ca, worker_secret_file=secret, **options)

    engine = click.option(
        "--engine", type=click.Choice(_ENGINES), default="local", show_default=True, help=_HELP["engine"]
    )
    scheduler = click.option("--scheduler", metavar="ADDRESS", help=_HELP["scheduler"])
    worker_ca = click.option("--worker-ca", type=click.Choice(_WORKER_CA), help=_HELP["worker_ca"])
    tls_ca_file = click.option("--tls-ca-file", type=FILE, help=_HELP["tls_ca_file"])
    tls_cert = click.option("--tls-cert", type=FILE, help=_HELP["tls_cert"])
    tls_key = click.option("--tls-key", type=FILE, help=_HELP["tls_key"])
    return engine(scheduler(worker_ca(tls_ca_file(tls_cert(tls_key(with_cluster))))))


def _cluster(given: dict[str, Any], *, logs: bool) -> ClusterOptions:
    from batch_issuer.cluster.options import ClusterOptions, check_options
    from batch_issuer.extras import need_extra

    options = ClusterOptions(**given, logs=logs)
    check_options(options)
    need_extra("dask", "dask", "distributed")
    return options
