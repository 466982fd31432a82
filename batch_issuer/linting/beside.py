"""The judge in a process beside: it imports while the caller does other things, and shares no memory with its keys."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from batch_issuer.errors import RefusedError
from batch_issuer.linting.explained import Explained
from batch_issuer.linting.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["JudgeBeside", "Verdict", "judge_is_installed"]

_OWN = "BATCH_ISSUER_"
_SECONDS = 120
"""A judge that has not answered by then never will."""

_CODE = "import sys; sys.path[:] = sys.argv[1:]; from batch_issuer.linting.judge import serve; serve()"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge found.

    Attributes:
        judge: who it was, with its version.
        findings: about all certificates together.
    """

    judge: str
    findings: tuple[Finding, ...]


def judge_is_installed() -> bool:
    """Whether there is a pkilint to be asked."""
    return find_spec("pkilint") is not None


class JudgeBeside:
    """A judge in a process of its own, started at once and asked once; a context manager, whose end ends the process.

    It gets no variable of this program and no descriptor but its pipes, and a signal of the terminal does not reach it.
    """

    def __enter__(self) -> JudgeBeside:
        places = [os.path.abspath(place) for place in sys.path]
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, with the code above
            [sys.executable, "-I", "-c", _CODE, *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if not name.startswith(_OWN)},
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, certificates: Sequence[bytes], issuer: bytes) -> Verdict:
        """What it finds in certificates of one CA.

        Args:
            certificates: DER.
            issuer: the CA's certificate, DER.

        Raises:
            RefusedError: it gave no answer.
        """
        asked = {"issuer": _text(issuer), "certificates": [_text(one) for one in certificates]}
        try:
            answer, _ = self._process.communicate(json.dumps(asked).encode(), timeout=_SECONDS)
            values = json.loads(answer)
            return Verdict(values["judge"], tuple(_finding(value) for value in values["findings"]))
        except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
            raise RefusedError(
                "pkilint gave no answer about the run's first certificate",
                hint="`batch-issuer lint` on any certificate shows whether it works; --no-lint issues without it",
            ) from None


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def _finding(values: dict[str, Any]) -> Finding:
    explained = values.pop("explained")
    return Finding(**values, explained=explained and Explained(**explained | {"kinds": tuple(explained["kinds"])}))
