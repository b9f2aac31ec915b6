"""The routing key: a short name of a model version, or of a shard of one, in one strict form.

Every check of a key applies the same form: in the route table, at the sidecar, and at the control plane. A valid key
cannot mean anything else there: it is not ``*`` (the xDS wildcard), not a cluster of Envoy's bootstrap (those have no
dot), and has no bytes outside ASCII.
"""

from __future__ import annotations

import re
from urllib.parse import quote

HEADER = "x-routing-key"
# On a request to be copied, beside its routing key: the routing key of the shadow.
SHADOW_HEADER = "x-shadow-key"
# On a copy: its routing key is the shadow's, while its body still names the answering version.
COPY_HEADER, COPY = "x-shadow", "copy"
# The tenant, for an Envoy that limits tenants' rates without reading the body.
TENANT_HEADER = "x-tenant"
# The conversation that a request continues, as for vllm-router (vllm-project/router src/policies).
SESSION_HEADER = "x-session-id"

MODEL_PATTERN = r"[a-z][a-z0-9-]{0,62}"
VERSION_PATTERN = r"v[0-9]{1,9}"
HIGHEST_SHARDS = 99
SHARD_PATTERN = r"s[1-9][0-9]?"
PATTERN = rf"{MODEL_PATTERN}\.{VERSION_PATTERN}(\.{SHARD_PATTERN})?"

_KEY = re.compile(PATTERN, re.ASCII)


def routing_key(model: str, version: str, shard: int = 0) -> str:
    """The routing key ``cw-ranker.v2`` of ``cw-ranker`` and ``v2``; that of its shard 1 is ``cw-ranker.v2.s1``."""
    return f"{model}.{version}.s{shard}" if shard else f"{model}.{version}"


def version_key(key: str) -> str:
    """A routing key without its shard: ``cw-ranker.v2`` for ``cw-ranker.v2.s1``."""
    return key if key.count(".") == 1 else key.rpartition(".")[0]


def tenant_in_header(tenant: str) -> str:
    """A tenant's name as a header value: percent-encoded, or ``%``, which no name encodes to, for none."""
    return quote(tenant, safe="") or "%"


def session_in_header(session: str) -> str:
    """A conversation's name as a header value: percent-encoded, and cut after 256 characters."""
    return quote(session, safe="")[:256]


def is_routing_key(text: str) -> bool:
    """Whether ``text`` has the form of a routing key."""
    return _KEY.fullmatch(text) is not None
