"""Who may send requests to a proxy, as regular expressions over a certificate's DER in upper hexadecimal digits."""

from __future__ import annotations

from lab.identity import OPERATOR, TRUST_DOMAIN

_ANY_URI = b"spiffe://".hex().upper()
TWO_URIS = f"{_ANY_URI}.*{_ANY_URI}"
"""Matches a certificate that names two identities."""


def admitted(node: str) -> str:
    """Matches a certificate of a caller, the operator, or the node ``node`` itself."""
    names = (f"spiffe://{TRUST_DOMAIN}/{name}" for name in ("caller/", f"{OPERATOR}/", node))
    # In DER, a URI among a certificate's names begins with the tag 0x86 and its length.
    return f"86[0-9A-F][0-9A-F]({'|'.join(name.encode().hex().upper() for name in names)})"
