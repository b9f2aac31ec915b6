"""Cluster names on an Envoy: the routing key, or a numbered name after that cluster has left the Envoy.

An Envoy that learns of a cluster's removal stays subscribed to its name and never asks for it again. So a name is used
only once: after a removal the Envoy must ask for ``cw-ranker.v1~1`` instead of ``cw-ranker.v1``, then for
``cw-ranker.v1~2``. A small filter maps the keys that have a numbered name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, extension_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2

from services.controlplane.xds.resources import Resource, packed

NAME = "names"
"""Name of the filter, and so of the resource that Envoys subscribe to."""

_MARK = "~"  # not allowed in routing keys
_NUMBERED = re.compile(r"([^~]+)~([1-9][0-9]{0,8})")
_SCRIPT = """\
local names = {NAMES}

function envoy_on_request(handle)
  local headers = handle:headers()
  local name = names[headers:get("x-cluster") or ""]
  if name then headers:replace("x-cluster", name) end
end
"""
_NOTHING = "-- every cluster has the name of its routing key"


def key_of(name: str) -> str:
    """The routing key of a cluster name."""
    return name.partition(_MARK)[0]


def number_of(name: str) -> int:
    """How many clusters of the key had left before this name; 0 for the key itself."""
    found = _NUMBERED.fullmatch(name)
    return int(found[2]) if found else 0


def is_name_of(name: str, key: str) -> bool:
    """Whether a cluster of the key may have this name."""
    return name == key or _NUMBERED.fullmatch(name) is not None


def name_of(key: str, number: int) -> str:
    """The cluster name; the inverse of :func:`number_of`."""
    return f"{key}{_MARK}{number}" if number else key


def renamed(cluster: Resource, name: str) -> Resource:
    """The same cluster under another name; its stats keep the key."""
    message = cluster_pb2.Cluster()
    cluster.body.Unpack(message)
    message.alt_stat_name, message.name = message.name, name
    if message.HasField("load_assignment"):
        message.load_assignment.cluster_name = name
    return replace(cluster, name=name, body=packed(message))


def name_list(numbers: Mapping[str, int]) -> Resource:
    """The filter that maps keys to names. Its version contains the map, so a reconnecting node reports what it holds.

    Args:
        numbers: routing key → number of its name, for keys with a numbered name.
    """
    names = {key: name_of(key, number) for key, number in sorted(numbers.items())}
    pairs = ", ".join(f'["{key}"] = "{name}"' for key, name in names.items())
    script = _SCRIPT.replace("NAMES", pairs) if names else _NOTHING
    filter_ = lua_pb2.Lua(default_source_code=base_pb2.DataSource(inline_string=script))
    body = packed(extension_pb2.TypedExtensionConfig(name=NAME, typed_config=packed(filter_)))
    return Resource(NAME, " ".join(["names", *names.values()]), body)


def numbers_in(version: str) -> dict[str, int]:
    """The numbers in a version of the filter; see :func:`name_list`."""
    return {key_of(name): number for name in version.split()[1:] if (number := number_of(name))}
