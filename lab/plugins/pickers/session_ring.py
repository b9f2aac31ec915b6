"""A conversation's replica by Envoy's and gRPC's ring of hashes (gRFC A42), over a request header.

Both compute the same ring, so a sidecar and a gRPC client send a conversation to the same replica.
"""

from __future__ import annotations

from lab.pickers import ENVOY, GATEWAY, GRPC, GRPC_XDS, THIRD_PARTY, Cannot, Picker

_RING = {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 1024, "hash_function": "XX_HASH"}}
_NO_HEADER = Cannot("its callers send the conversation in no header")

PICKER = Picker(
    name="session-ring",
    line="a conversation's replica by a ring of hashes over `x-session-id`, in Envoys and in gRPC by xDS",
    places={
        GATEWAY: Cannot("the lab's gateway has ring-hash for that"),
        ENVOY: _RING,
        GRPC: Cannot("without xDS, gRPC hashes a header only by an experimental switch of its process"),
        GRPC_XDS: _RING,
        **dict.fromkeys(THIRD_PARTY, _NO_HEADER),
    },
    skewed=True,
)
