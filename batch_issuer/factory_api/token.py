"""What a token for the factory's API may look like, for whoever sends or takes one."""

from __future__ import annotations

import re

from batch_issuer.errors import RefusedError

__all__ = ["check_token"]


def check_token(token: str) -> None:
    """It is printable ASCII without spaces: all that a header can carry, in every program on its way.

    Raises:
        RefusedError: it is not.
    """
    if not re.fullmatch(r"[!-~]+", token):
        raise RefusedError("the token for the factory's API must be printable ASCII without spaces; it is not")
