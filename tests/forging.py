"""Certificates that a lab's authority would sign, and that the lab itself never makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

from cryptography import x509

from lab.identity import Identity
from lab.identity.authority import Authority, folder_of
from lab.transport.security import MTLS, Security


def forged(authority: Authority, name: str, identities: Sequence[Identity]) -> Security:
    """A certificate with a URI for each of the identities."""
    uris = [x509.UniformResourceIdentifier(each.uri) for each in identities]
    genuine = x509.SubjectAlternativeName

    def with_all(names: Sequence[x509.GeneralName]) -> x509.SubjectAlternativeName:
        others = [each for each in names if not isinstance(each, x509.UniformResourceIdentifier)]
        return genuine([*uris, *others])

    with patch.object(x509, "SubjectAlternativeName", with_all):
        authority.issue(name, identities[0], {"127.0.0.1"})
    return Security(MTLS, str(folder_of(Path(authority.folder), name)))
