"""How processes of the lab reach each other: credentials, channels, servers, and a service's life until SIGTERM.

Every gRPC channel and server of the lab is opened here and nowhere else. What is said over them lives elsewhere.
"""

from lab.transport.channels import open_blocking_channel, open_channel
from lab.transport.security import Security
from lab.transport.servers import drain, enable_reflection, listen, new_server
from lab.transport.service import run_service
from lab.transport.xds import open_xds_channel

__all__ = [
    "Security",
    "drain",
    "enable_reflection",
    "listen",
    "new_server",
    "open_blocking_channel",
    "open_channel",
    "open_xds_channel",
    "run_service",
]
