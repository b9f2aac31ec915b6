"""Credentials, channels, servers, and the main function of services.

Every gRPC channel and every server of the lab is opened here and nowhere else. Their protocols live elsewhere.
"""

from lab.transport.authorization import guard_of
from lab.transport.channels import ChannelCache, open_blocking_channel, open_channel
from lab.transport.deadlines import answer_of, items_of, set_within
from lab.transport.metrics import expose, serve_metrics
from lab.transport.rest_server import RestServer
from lab.transport.security import Security, is_operator, peer_identity, proved_caller
from lab.transport.servers import drain, enable_reflection, is_serving, listen, new_server, run_service
from lab.transport.xds import open_xds_channel

__all__ = [
    "ChannelCache",
    "RestServer",
    "Security",
    "answer_of",
    "drain",
    "enable_reflection",
    "expose",
    "guard_of",
    "is_operator",
    "is_serving",
    "items_of",
    "listen",
    "new_server",
    "open_blocking_channel",
    "open_channel",
    "open_xds_channel",
    "peer_identity",
    "proved_caller",
    "run_service",
    "serve_metrics",
    "set_within",
]
