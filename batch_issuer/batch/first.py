"""The plan's last question: what does an outside judge say of the run's first certificate?

The certificate is a twin of the first one to be made, by the readable definition: the same subject, issuer, validity
and extensions. Its key is thrown away (a device that keeps its own brings that one), and it is signed by that key and
not by the CA's, which signs nothing but what is issued; the judge does not look at signatures.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from batch_issuer.batch.spill import PlanReader
from batch_issuer.batch.terms import device_issuance
from batch_issuer.devices import DeviceRequest
from batch_issuer.errors import RefusedError
from batch_issuer.linting.beside import JudgeBeside, judge_is_installed
from batch_issuer.linting.findings import WRONG
from batch_issuer.manifest.columns import CSR_COLUMN, PRODUCTION_COLUMN, UUID_COLUMN
from batch_issuer.minting.reference import device_certificate, requested_certificate
from batch_issuer.minting.template import SERIAL_LENGTH, serial_numbers

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from batch_issuer.batch.plan import Plan
    from batch_issuer.output.record import RunRecord

__all__ = ["first_certificate", "judge_for", "judged"]

_NOBODY = DeviceRequest("00000000-0000-4000-8000-000000000000")
"""Of a dry run, which keeps no rows."""


def judge_for(*, lint: bool) -> AbstractContextManager[JudgeBeside | None]:
    """The judge, started; None if it is not asked for, or not installed."""
    return JudgeBeside() if lint and judge_is_installed() else nullcontext()


def judged(plan: Plan, judge: JudgeBeside | None, record: RunRecord, spill: Path | None) -> Plan:
    """The plan, with who judged the run's first certificate, and what that warns of.

    Args:
        plan: what was accepted.
        judge: started; None leaves the plan as it is.
        record: the run, which may have begun earlier.
        spill: its accepted rows; None for a dry run.

    Raises:
        RefusedError: the certificate breaks a rule, and none of the factory's profiles explains it; or the judge gave
            no answer.
    """
    if judge is None:
        return plan
    ca = x509.load_pem_x509_certificate(record.ca_certificate.encode()).public_bytes(Encoding.DER)
    verdict = judge.ask([first_certificate(record, spill)], ca)
    wrong = [finding for finding in verdict.findings if finding.wrong]
    for finding in wrong:
        if finding.severity != WRONG[-1]:
            raise RefusedError(
                f"the run's first certificate would break a rule, {verdict.judge} says: {finding}",
                hint=f"look at {record.ca_name}.pem with `batch-issuer lint`; --no-lint issues all the same",
            )
    warned = [f"of the run's first certificate {verdict.judge} says: {finding}" for finding in wrong]
    return replace(plan, warnings=[*plan.warnings, *warned], linted_by=verdict.judge)


def first_certificate(record: RunRecord, spill: Path | None) -> bytes:
    """The twin of the run's first certificate, DER."""
    issuance, key = device_issuance(record), ec.generate_private_key(ec.SECP256R1())
    serial = int.from_bytes(serial_numbers(os.urandom(SERIAL_LENGTH)))
    request, csr = _first_row(record, spill)
    if csr is None:
        made = device_certificate(issuance, request, key.public_key(), serial, key)
    else:
        made = requested_certificate(issuance, x509.load_pem_x509_csr(csr.encode()), serial, key)
    return made.public_bytes(Encoding.DER)


def _first_row(record: RunRecord, spill: Path | None) -> tuple[DeviceRequest, str | None]:
    if spill is None:
        return DeviceRequest(_NOBODY.device_uuid, record.production), None
    with PlanReader(spill) as reader:
        [row] = reader.part(0).slice(0, 1).to_pylist()
    production = row[PRODUCTION_COLUMN]
    request = DeviceRequest(row[UUID_COLUMN], record.production if production is None else production)
    return request, row.get(CSR_COLUMN)
