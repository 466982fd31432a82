"""Packages that only some commands need: what is missing is said in one sentence, with how to get it."""

from __future__ import annotations

from importlib.util import find_spec

from batch_issuer.errors import RefusedError

__all__ = ["need_extra"]


def need_extra(extra: str, *modules: str) -> None:
    """Whether the packages of the optional extra `extra` are installed.

    Raises:
        RefusedError: one of `modules` cannot be found.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise RefusedError(
            f"this command needs {', '.join(missing)}, which is not installed",
            hint=f"pip install 'batch-issuer[{extra}]'",
        )
