"""Who a unit is, and how it proves that: names, the folder that its certificate is in, and the lab's own authority.

Here belongs what a certificate says and where it lies. Who may do what is for the services to say, and how channels and
servers take a certificate for ``lab.transport``. Only the authority needs a library for certificates, and only where
the lab is stood up: no unit imports it.
"""

from lab.identity.names import OPERATOR, TRUST_DOMAIN, Identity, host_name, sidecar_of

__all__ = ["OPERATOR", "TRUST_DOMAIN", "Identity", "host_name", "sidecar_of"]
