"""Opening a store: obstore is imported only when an address is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from batch_issuer.extras import need_extra

if TYPE_CHECKING:
    from batch_issuer.stores.address import StoreAddress
    from batch_issuer.stores.store import Store

__all__ = ["open_store"]


def open_store(address: StoreAddress, *, retries: int = 10) -> Store:
    """The objects below an address; nothing is asked of the store yet.

    Args:
        address: with the prefix that all names are below.
        retries: how often a request is made again that was answered by 5xx or lost; the pauses grow to 15 s.

    Raises:
        RefusedError: obstore is not installed, or the environment names an endpoint that is not to be used.
    """
    need_extra("s3", "obstore")
    return cast("Store", import_module("batch_issuer.stores.store").Store(address, retries=retries))
