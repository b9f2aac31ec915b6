"""Identities of units and their proof: names, the folder of a certificate, and the lab's own authority.

Here belongs what certificates contain and where they are. Services decide what each identity may do; channels and
servers of ``lab.transport`` use the certificates. The authority alone needs a library for certificates, and only ``lab
up`` and ``lab pki`` need the authority: no unit imports it.
"""

from lab.identity.names import OPERATOR, OWNER, TRUST_DOMAIN, Identity, host_name, sidecar_of

__all__ = ["OPERATOR", "OWNER", "TRUST_DOMAIN", "Identity", "host_name", "sidecar_of"]
