"""The lines of `SHA256SUMS`, as coreutils' `sha256sum --check` reads them.

No name below an output folder has a line break or a backslash in it, so that no line needs coreutils' escapes.
"""

from __future__ import annotations

__all__ = ["BUNDLES", "sum_line"]

BUNDLES = "bundles"
"""The folder below the output folder that most of the lines are about."""


def sum_line(digest: str, path: str) -> str:
    """The line of one file.

    Args:
        digest: SHA-256 of its octets, hex.
        path: its place below the output folder.
    """
    return f"{digest}  {path}\n"
