"""Pickers, one file each: which replica of a cluster gets a request.

:data:`PICKERS` finds them here, at the entry points of the group ``routing_lab.pickers``, and in the files of
``--plugin``. Who picks, and by which picker, a topology and the lab's spec say.
"""

from lab.pickers._picker import (
    DEFAULT_PICKER,
    ENVOY,
    GATEWAY,
    GRPC,
    GRPC_XDS,
    NO_WAITING,
    PICKERS,
    THIRD_PARTY,
    Asked,
    Cannot,
    Chooser,
    Chooses,
    Pick,
    Picker,
    Queues,
    Seen,
    Source,
    Speed,
    at_gateway_only,
    even_shares,
)
from lab.pickers._staleness import Stale, offered

__all__ = [
    "DEFAULT_PICKER",
    "ENVOY",
    "GATEWAY",
    "GRPC",
    "GRPC_XDS",
    "NO_WAITING",
    "PICKERS",
    "THIRD_PARTY",
    "Asked",
    "Cannot",
    "Chooser",
    "Chooses",
    "Pick",
    "Picker",
    "Queues",
    "Seen",
    "Source",
    "Speed",
    "Stale",
    "at_gateway_only",
    "even_shares",
    "offered",
]
