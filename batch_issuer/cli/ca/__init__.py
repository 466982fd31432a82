"""`batch-issuer ca`: the factory's own PKI."""

from __future__ import annotations

import click

from batch_issuer.cli.ca.create import create
from batch_issuer.cli.ca.device_cas import add_device_ca, update
from batch_issuer.cli.ca.show import show
from batch_issuer.cli.ca.signer import add_signer
from batch_issuer.cli.ca.states import disable, enable, revoke
from batch_issuer.cli.ca.tls import rotate_tls, sign
from batch_issuer.cli.command import Group

__all__ = ["ca"]


@click.group(cls=Group)
def ca() -> None:
    """Make and look after the factory's certificate authorities.

    Alone, or with a factory's API (--api URL), which then holds the keys of the gateway and of the online-ca. What an
    interrupted command began is finished by `update` without a file, or by the same command.
    """
    from batch_issuer.processes import forbid_core_dumps

    forbid_core_dumps()  # the root's key is in this process's memory


for command in (create, show, add_device_ca, update, rotate_tls, disable, enable, revoke, sign, add_signer):
    ca.add_command(command)
