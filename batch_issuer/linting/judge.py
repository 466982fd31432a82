"""pkilint as the judge: a certificate in, findings out. To import this takes about 0.15 s of a core."""

from __future__ import annotations

import base64
import json
import logging
import sys
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from typing import Any

from pkilint.loader import load_der_certificate
from pkilint.pkix import certificate, extension, name

from batch_issuer.linting.explained import explanation, subject_of
from batch_issuer.linting.findings import WRONG, Finding

__all__ = ["judge", "judge_name", "serve"]


def judge(der: bytes, issuer: bytes | None = None) -> list[Finding]:
    """All findings about a certificate, under the rules of RFC 5280 as pkilint has them; signatures are not checked.

    Args:
        der: the certificate.
        issuer: its CA's certificate, DER, if that is known: some findings are explained by it.
    """
    try:
        root = load_der_certificate(der, "", "").root
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        return [Finding("FATAL", "certificate-unreadable", "certificate", reason)]
    subject = subject_of(der, issuer)
    findings = []
    for result in _rules().validate(root):
        for found in result.finding_descriptions:
            code, message = found.finding.code, found.message or ""
            severity = found.finding.severity.name
            explained = explanation(code, subject) if severity in WRONG else None
            findings.append(Finding(severity, code, result.node.path, message, explained))
    return findings


def judge_name() -> str:
    """The judge with its version."""
    return f"pkilint {version('pkilint')}"


def serve() -> None:
    """The life of a judge in a process beside: it reads the one question of `beside`, and answers it."""
    asked = json.load(sys.stdin)
    issuer = base64.b64decode(asked["issuer"])
    found = [finding for one in asked["certificates"] for finding in judge(base64.b64decode(one), issuer)]
    sys.stdout.write(json.dumps({"judge": judge_name(), "findings": [asdict(finding) for finding in found]}))


@cache
def _rules() -> Any:
    """The rules that pkilint's own `lint_pkix_cert` applies."""
    # A rule that fails of itself is a finding, and so shown; its traceback is not for the user.
    logging.getLogger("pkilint").addHandler(logging.NullHandler())
    logging.getLogger("pkilint").propagate = False
    decoding = certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS)
    return certificate.create_pkix_certificate_validator_container(
        decoding,
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )
