"""TLS for the REST server: follows the certificate's rotation, and reads peers' SPIFFE ids.

Imported with the first connection, as Python's TLS takes memory.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import SpecError
from lab.identity import folder as folders

if TYPE_CHECKING:
    from lab.transport.security import Security


def server_context(security: Security) -> ssl.SSLContext:
    """A server's TLS context, for ``mtls``; it follows the certificate's rotation.

    Raises:
        SpecError: there is no certificate, or it cannot be read.
    """
    newer, current = security.renewing(lambda: _context(security)), _context(security)

    def renew(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context_before: ssl.SSLContext) -> None:
        nonlocal current
        connection.context = current = newer() or current

    first = _context(security)
    first.sni_callback = renew
    return first


def spiffe_id(certificate: Mapping[str, Any] | None) -> str:
    """The SPIFFE id of a peer's certificate, as :meth:`ssl.SSLSocket.getpeercert` returns it; empty if it has not one.

    Also empty for a certificate that has expired, as connections outlive certificates.
    """
    if not certificate or ssl.cert_time_to_seconds(certificate["notAfter"]) < time.time():  # noqa: TID251 (certificates have dates)
        return ""
    uris = [name for kind, name in certificate.get("subjectAltName", ()) if kind == "URI"]
    return uris[0] if len(uris) == 1 else ""


def _context(security: Security) -> ssl.SSLContext:
    home = Path(security.folder) / security.version()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(home / folders.AUTHORITIES)
        context.load_cert_chain(home / folders.CERTIFICATE, home / folders.KEY)
    except OSError as error:  # which ssl.SSLError is, too
        raise SpecError(f"security: no certificate in {security.folder}: {error.strerror or error}") from None
    return context
