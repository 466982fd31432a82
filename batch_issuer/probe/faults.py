"""What can be wrong with a device at a gateway: each fault by its code, and what the system's errors mean."""

from __future__ import annotations

import errno
import os
import ssl

from batch_issuer.errors import BatchIssuerError

__all__ = ["EXPLANATIONS", "ProbeError", "broken_connection", "failed_connection"]

EXPLANATIONS = {
    "bundle-damaged": "the bundle cannot be used as it is stored",
    "connect": "no TCP connection to the gateway came up",
    "timeout": "the gateway did not answer in time",
    "tls": "the gateway and the device found no way to speak TLS",
    "server-untrusted": "the device's root.crt does not vouch for the gateway's certificate",
    "server-name": "the gateway's certificate is for another name than the device asks for",
    "client-refused": "the gateway ended the connection when it saw the device's certificate",
    "disconnected": "the gateway closed the connection instead of answering",
    "no-certificate": "the gateway says that the device sent no certificate: something before it ends TLS",
    "deleted": "the gateway says that the device was deleted: it is let in when it is off the deny list",
    "ca-disabled": "the gateway registers no new devices of this device CA: it was disabled",
    "key-changed": "the gateway knows the device by another key: it is locked out until that entry is deleted",
    "http-status": "the gateway refused the request",
    "bad-answer": "the gateway answered, but not with what was asked for",
    "wrong-device": "the gateway takes the device for another one",
    "production-mismatch": "the gateway's production flag is not what the certificate says",
}
"""Every code with what it means, in the order in which a device meets them."""

_OTHER_NAME = {62, 64}
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL's x509_vfy.h."""

_ALERT = "_ALERT_"
_ABOUT_THE_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "DECRYPT_ERROR")
"""Words of the alerts by which a server refuses a client's certificate or its signature (RFC 8446 section 6.2)."""

_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class ProbeError(Exception):
    """One device failed; never the end of the probe.

    Attributes:
        code: one of `EXPLANATIONS`.
        detail: what was seen, without what is the device's alone; never a key.
        absent: whether the gateway was not there at all, so that it would be the same for any device.
    """

    def __init__(self, code: str, detail: str, *, absent: bool = False) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.absent = absent


def failed_connection(error: BaseException) -> ProbeError:
    """What it means that TCP or the TLS handshake failed with `error`.

    Raises:
        BatchIssuerError: this machine ran out of something: no device is to blame.
    """
    cause = _root_cause(error)
    if isinstance(cause, ssl.SSLError):
        return _tls_fault(cause)
    if isinstance(cause, OSError) and cause.errno in _OURS:
        raise BatchIssuerError(
            f"this machine cannot open so many connections: {os.strerror(cause.errno)}", hint="lower --concurrency"
        )
    if isinstance(cause, ConnectionError) and not isinstance(cause, ConnectionRefusedError):
        return ProbeError("tls", "the gateway closed the connection during the handshake")
    reason = os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else str(cause)
    return ProbeError("connect", reason, absent=True)


def broken_connection(error: BaseException, path: str, *, answered: bool) -> ProbeError:
    """What it means that an established connection failed with `error` when `path` was asked for.

    Args:
        error: what was raised.
        path: of the request.
        answered: whether the gateway answered an earlier request on it.
    """
    cause = _root_cause(error)
    if isinstance(cause, ssl.SSLError):
        return _tls_fault(cause)
    if answered:
        return ProbeError("disconnected", f"GET {path}")
    # In TLS 1.3 the client is done before the server looks at its certificate, so a refusal comes with the first
    # read; and not every server sends the alert before it closes (Python's asyncio does not).
    return ProbeError("client-refused", "closed without an alert, right after the handshake")


def _tls_fault(error: ssl.SSLError) -> ProbeError:
    if isinstance(error, ssl.SSLCertVerificationError):
        code = "server-name" if error.verify_code in _OTHER_NAME else "server-untrusted"
        return ProbeError(code, error.verify_message.rstrip("."))
    reason = error.reason or type(error).__name__
    _, is_alert, name = reason.partition(_ALERT)
    if not is_alert:
        return ProbeError("tls", _words(reason))
    refused = any(word in name for word in _ABOUT_THE_CERTIFICATE)
    return ProbeError("client-refused" if refused else "tls", f"TLS alert: {_words(name)}")


def _words(name: str) -> str:
    return name.replace("_", " ").lower()


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
