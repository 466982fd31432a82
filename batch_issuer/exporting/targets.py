"""What each bulk import reads: a table by name, each form with the document that it was taken from.

No form has a place for a private key, and none is ever handed one.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.errors import RefusedError
from batch_issuer.output.spreadsheet import safe_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batch_issuer.issued import IssuedRow
    from batch_issuer.output.record import RunRecord

__all__ = ["TARGET_NAMES", "Target", "export_target"]


@dataclass(frozen=True, slots=True)
class Target:
    """How one bulk import wants its file.

    Attributes:
        name: what `--for` calls it.
        suffix: of its files.
        limit: devices per file at most; None where the documents name no limit.
        with_certificates: whether its lines hold certificates.
        header: what each file begins with, of a run.
        line: a device's line, with its line end: of the run's record, the device's row and its certificate, PEM (empty
            where lines hold none).
        beside: further files, by name, of a run.
        hint: what to do with the files.
    """

    name: str
    suffix: str
    limit: int | None
    with_certificates: bool
    line: Callable[[RunRecord, IssuedRow, str], str]
    hint: str
    header: str = ""
    beside: Callable[[RunRecord], dict[str, str]] = lambda _: {}


def _csv_line(values: Sequence[str | int]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _aws_line(_: RunRecord, device: IssuedRow, certificate: str) -> str:
    """One JSON object per line with the template's parameters.

    Sources: https://docs.aws.amazon.com/iot/latest/developerguide/bulk-provisioning.html (newline-delimited JSON, one
    task per account at a time); https://docs.aws.amazon.com/iot/latest/developerguide/provision-template.html (a
    certificate of a registered CA by CertificatePem and CACertificatePem). Neither names a limit of lines.
    """
    return json.dumps({"ThingName": device.device_uuid, "CertificatePem": certificate}) + "\n"


def _aws_template(record: RunRecord) -> dict[str, str]:
    """The provisioning template that the lines are for: the CA, the same for all, is a parameter's default in it."""
    parameters = {
        "ThingName": {"Type": "String"},
        "CertificatePem": {"Type": "String"},
        "CACertificatePem": {"Type": "String", "Default": record.ca_certificate},
    }
    certificate = {name: {"Ref": name} for name in ("CertificatePem", "CACertificatePem")}
    resources = {
        "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}}},
        "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {**certificate, "Status": "ACTIVE"}},
    }
    return {"aws-template.json": json.dumps({"Parameters": parameters, "Resources": resources}, indent=2) + "\n"}


def _nrfcloud_line(_: RunRecord, device: IssuedRow, certificate: str) -> str:
    """Device ID, sub type, tags, firmware types, certificate; no header. The device group becomes the tag.

    Sources: https://github.com/nRFCloud/utils (`nrf_cloud_onboard.py`: at most 1,000 rows, posted as text/csv to
    https://api.nrfcloud.com/v1/devices; firmware types `APP|MODEM` unless told otherwise);
    https://docs.memfault.com/docs/nrfcloud/device-groups-api (tags are separated by `|`).

    Raises:
        RefusedError: the group's name would become two tags.
    """
    if device.group is not None and "|" in device.group:
        raise RefusedError(
            f"row {device.row}: nRF Cloud would take the group {device.group!r} for several tags, by its '|'",
            hint="choose another name for the group in the manifest",
        )
    return _csv_line((device.device_uuid, "", device.group or "", "APP|MODEM", certificate))


def _rainmaker_line(_: RunRecord, device: IssuedRow, certificate: str) -> str:
    """The columns node_id and certs; a node's ID is its certificate's common name.

    Source: https://github.com/espressif/esp-rainmaker-admin-cli (README, "Register Device Certificates", and
    `certs.py`), which names no limit of rows.
    """
    return _csv_line((device.device_uuid, certificate))


def _azure_line(_: RunRecord, device: IssuedRow, __: str) -> str:
    """One JSON object per line, as an IoT hub's import job reads its devices.txt; the certificate by its SHA-256.

    Sources: https://learn.microsoft.com/azure/iot-hub/iot-hub-bulk-identity-mgmt (the lines, and importMode: `create`
    overwrites nothing); https://learn.microsoft.com/rest/api/iothub/service/bulkregistry/updateregistry
    (x509Thumbprint); https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-quotas-throttling (1,000,000 devices
    per hub, one import at a time). The Device Provisioning Service has no import by file: its bulk operation takes 10
    enrollments per request (https://learn.microsoft.com/rest/api/iot-dps/service/individual-enrollment/run-bulk-operation).
    """
    values = {
        "id": device.device_uuid,
        "importMode": "create",
        "status": "enabled",
        "authentication": {
            "type": "selfSigned",  # Azure's word for "by thumbprint"
            "x509Thumbprint": {"primaryThumbprint": device.certificate_sha256.upper(), "secondaryThumbprint": None},
        },
    }
    return json.dumps(values) + "\n"


_CSV_COLUMNS = (
    "device_uuid",
    "serial_number",
    "not_before",
    "not_after",
    "certificate_sha256",
    "public_key_sha256",
    "name",
    "group",
    "certificate_pem",
)


def _csv_row(record: RunRecord, device: IssuedRow, certificate: str) -> str:
    """For everything else (RFC 4180): what the output manifest says, and the certificate."""
    texts = [device.name or "", device.group or ""]
    return _csv_line(
        (
            device.device_uuid,
            device.serial_number,
            record.not_before,
            record.not_after,
            device.certificate_sha256,
            device.public_key_sha256,
            *(map(safe_text, texts) if record.spreadsheet_safe else texts),
            certificate,
        )
    )


_TARGETS = {
    target.name: target
    for target in (
        Target(
            "aws",
            ".json",
            None,
            with_certificates=True,
            line=_aws_line,
            beside=_aws_template,
            hint="register the CA with AWS IoT, add a policy to aws-template.json, put the file into a bucket, then "
            "`aws iot start-thing-registration-task`",
        ),
        Target(
            "nrfcloud",
            ".csv",
            1000,
            with_certificates=True,
            line=_nrfcloud_line,
            hint="onboard each file by itself: `nrf_cloud_onboard --csv FILE`, or the portal",
        ),
        Target(
            "rainmaker",
            ".csv",
            None,
            with_certificates=True,
            header="node_id,certs\n",
            line=_rainmaker_line,
            hint="`rainmaker_admin_cli.py certs devicecert register --inputfile FILE`",
        ),
        Target(
            "azure",
            ".txt",
            1_000_000,
            with_certificates=False,
            line=_azure_line,
            hint="put each file into a container as devices.txt, then `az iot hub device-identity import`; one hub "
            "takes one file",
        ),
        Target(
            "csv",
            ".csv",
            None,
            with_certificates=True,
            header=",".join(_CSV_COLUMNS) + "\n",
            line=_csv_row,
            hint="one row per device, with its certificate",
        ),
    )
}

TARGET_NAMES = tuple(_TARGETS)


def export_target(name: str) -> Target:
    """The target called `name`.

    Raises:
        RefusedError: there is none of that name.
    """
    if name not in _TARGETS:
        raise RefusedError(f"export target {name!r} is not known", hint=f"known targets: {', '.join(_TARGETS)}")
    return _TARGETS[name]
