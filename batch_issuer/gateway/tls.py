"""The device gateway's side of TLS: device CAs are the anchors themselves; a certificate is asked for, not demanded.

Source: dg-satellite's server (`VerifyClientCertIfGiven`, TLS 1.2 at least, `ClientCAs` the device CAs alone).

What is checked is what OpenSSL checks, and that server's is Go's. OpenSSL is stricter: it refuses devices

- whose authorityKeyIdentifier names another key than their CA's subjectKeyIdentifier, or another issuer and serial;
- without authorityKeyIdentifier, when two device CAs have the same name and theirs is not the first;
- whose extendedKeyUsage, or their CA's, is anyExtendedKeyUsage and not clientAuth;
- whose keyUsage has neither digitalSignature nor keyAgreement;
- whose Netscape certificate type is not that of a client;
- with a key on P-224, in TLS 1.2.

It is laxer in one way: an issuer that differs from the CA's subject in case or spaces alone is that CA. Certificates of
`issue` are let in by both.
"""

from __future__ import annotations

import ssl
import tempfile
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from batch_issuer.errors import AuthorityError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography import x509

__all__ = ["server_context"]


class _Telling(ssl.SSLObject):
    """A handshake whose refusal reaches the other side.

    asyncio drops a connection whose handshake fails without sending the alert that says why (seen with Python 3.11),
    and a device would see no more than a closed connection. It does send what is to be sent when more is to be read.
    """

    _refused = False

    def do_handshake(self) -> None:
        """Go on with the handshake.

        Raises:
            ssl.SSLError: it failed, and the other side was told before.
        """
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            if self._refused:
                raise
            self._refused = True
            raise ssl.SSLWantReadError from None  # what is read next ends it


def server_context(tls: x509.Certificate, key: Path, device_cas: Sequence[x509.Certificate]) -> ssl.SSLContext:
    """What handshakes go by.

    The root is not among the anchors: a device sends its leaf alone, and a device CA that was taken away is not trusted
    although the root still vouches for it.

    Args:
        tls: the gateway's certificate.
        key: the file with its key.
        device_cas: whose devices are let in; none of any other.

    Raises:
        AuthorityError: the key cannot be read, or OpenSSL refuses the certificate or its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = _Telling
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # A resumed session is not asked for its certificate again. TLS 1.2 resumes by number all the same, out of this
    # context's own memory, which ends with the context.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    with tempfile.NamedTemporaryFile() as file:  # the library takes certificates of its own only from a file
        file.write(tls.public_bytes(Encoding.PEM))
        file.flush()
        try:
            context.load_cert_chain(file.name, key, password="")
            if device_cas:
                context.load_verify_locations(cadata=b"".join(ca.public_bytes(Encoding.DER) for ca in device_cas))
        except ssl.SSLError as error:
            reason = error.reason or "unreadable"
            raise AuthorityError(
                f"the gateway's certificate, key or device CAs cannot be used: OpenSSL says {reason}"
            ) from None
        except OSError as error:
            raise AuthorityError(
                f"the key of the gateway's certificate, tls-crt, cannot be read: {key}: {error.strerror}",
                hint="put the file back, or begin anew in another --data: the key was made here and is nowhere else",
            ) from None
    return context
