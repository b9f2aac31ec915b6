"""The routing key: a short name of a model version, in one strict form.

The form is the same wherever a key is let through: in the route table, at the sidecar's guard, and at the control
plane. Nothing that has it can be read as anything else there: not ``*`` (a wildcard to xDS), not the name of one of
Envoy's own clusters (those have no dot), not bytes outside ASCII.
"""

from __future__ import annotations

import re
from urllib.parse import quote

HEADER = "x-routing-key"
# Beside it, on a request that is to be copied: the routing key of the shadow that gets the copy.
SHADOW_HEADER = "x-shadow-key"
# On the copy, whose own routing key is the shadow's while its body still names the version that answers.
COPY_HEADER, COPY = "x-shadow", "copy"
# The tenant once more, for an Envoy that reads no body and limits each tenant's rate.
TENANT_HEADER = "x-tenant"

MODEL_PATTERN = r"[a-z][a-z0-9-]{0,62}"
VERSION_PATTERN = r"v[0-9]{1,9}"
PATTERN = rf"{MODEL_PATTERN}\.{VERSION_PATTERN}"

_KEY = re.compile(PATTERN, re.ASCII)


def routing_key(model: str, version: str) -> str:
    """``cw-ranker`` and ``v2`` make ``cw-ranker.v2``."""
    return f"{model}.{version}"


def tenant_in_header(tenant: str) -> str:
    """A tenant's name as the header has it: percent-encoded, and ``%``, which no name becomes, for none."""
    return quote(tenant, safe="") or "%"


def is_routing_key(text: str) -> bool:
    """Whether ``text`` has the one form that a routing key may have."""
    return _KEY.fullmatch(text) is not None
