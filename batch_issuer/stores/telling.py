"""What an object store's errors mean, as sentences: of its answer only status and code are told, never the rest.

The rest can have an address with a signature in it, or what was signed.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError

from batch_issuer.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_issuer.stores.address import StoreAddress

__all__ = ["store_error", "telling"]

_STATUS = re.compile(r"status code: ([0-9]{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})
_PASSING = frozenset({"408", "409", "412", "425", "429"})
"""Refusals that say something of this moment: two writers of one object at once, too many requests."""

# Where obstore looks for a role's credentials when the environment has none: AWS and Azure, GCS.
_METADATA = re.compile(r"169\.254\.|\[fd00:ec2::254\]|metadata\.google\.internal|oauth2|login\.microsoftonline")


@contextmanager
def telling(address: StoreAddress, doing: str) -> Iterator[None]:
    """Make the errors of obstore those of this program.

    Args:
        address: what it is about.
        doing: what is being done, such as `write run.json`.

    Raises:
        StoreError: instead of them; FileNotFoundError of an object stays what it is.
    """
    try:
        yield
    except FileNotFoundError as error:
        if _code(str(error)) in _NO_BUCKET:
            raise store_error(address, doing, str(error)) from None
        raise FileNotFoundError(f"{address}: nothing is there to {doing}") from None
    except BaseError as error:
        raise store_error(address, doing, str(error)) from None
    except (ValueError, OSError) as error:
        raise store_error(address, doing, str(error)) from None


def store_error(address: StoreAddress, doing: str, told: str) -> StoreError:
    """The error that obstore's text means."""
    status = found[1] if (found := _STATUS.search(told)) else ""
    code = _code(told)
    if code in _NO_BUCKET:
        return StoreError(
            f"the bucket {address.bucket} of {address} does not exist",
            refused=True,
            hint="make it first; for a store that is not the cloud's own, AWS_ENDPOINT says where it is",
        )
    if _METADATA.search(told.partition("\n")[0]):
        return StoreError(
            f"no credentials for {address} are in the environment, and this machine has no role that gives any",
            refused=True,
            hint="such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "
            "`aws configure export-credentials --format env` prints those of a profile",
        )
    answer = f"{status} {code}".strip()
    if status.startswith("4") and status not in _PASSING:
        return StoreError(
            f"the store refuses to {doing} in {address}: {answer}",
            refused=True,
            hint="look at the credentials in the environment, whether they have expired, and what the bucket's "
            "policy allows them",
        )
    if status:
        return StoreError(f"the store cannot {doing} in {address}: it answers {answer}, again and again")
    return StoreError(f"the store of {address} cannot be reached to {doing}, or does not answer in time")


def _code(told: str) -> str:
    return found[1] if (found := _CODE.search(told)) else ""
