"""TLS for what is not gRPC: a server that shows the present certificate, and who came with which.

Imported only once somebody connects, as Python's TLS takes memory.
"""

from __future__ import annotations

import logging
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import SpecError
from lab.identity import folder as folders

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.transport.security import Security

_log = logging.getLogger(__name__)


def server_context(security: Security) -> ssl.SSLContext:
    """What a server shows and demands, of an ``mtls`` end. It shows the present certificate at any time.

    Raises:
        SpecError: there is no certificate, or it cannot be read.
    """
    seen, present = security.version(), _context(security)

    def newer(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context_before: ssl.SSLContext) -> None:
        # Asked at every handshake. If what is there cannot be read, the one before serves on.
        nonlocal seen, present
        try:
            if (version := security.version()) != seen:
                seen, present = version, _context(security)
        except SpecError as error:
            _log.warning("the certificate before serves on: %s", error)
        connection.context = present

    first = _context(security)
    first.sni_callback = newer
    return first


def spiffe_id(certificate: Mapping[str, Any] | None) -> str:
    """The one SPIFFE id of a peer's certificate, as :meth:`ssl.SSLSocket.getpeercert` tells it; empty without one.

    Connections outlive certificates: of one that is no longer valid there is none, either.
    """
    if not certificate or ssl.cert_time_to_seconds(certificate["notAfter"]) < time.time():
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
