"""Which routing keys an Envoy lets through: a filter, with the guard of their form, that it has before it listens.

A key that is not on the list is refused there and then. Nothing is asked of the control plane for it and nothing is
kept of it, so that whoever makes keys up costs a sidecar no memory, and learns nothing of what others use.

Where all callers share an Envoy, the filter also says whose share of what tenants are granted a request uses up: by who
its caller has proved to be, as at a gateway (:meth:`services.gateway.tenant_quota.Limiter.enter`), and not by its word.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envoy.config.core.v3 import base_pb2, extension_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2

from lab.identity import OPERATOR, Identity
from lab.routing.keys_in_lua import GUARD
from lab.routing.limits import DEFAULT, limits_of
from services.controlplane.xds.resources import Resource, packed, resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

NAME = "keys"
"""Of the filter, and so of the resource that Envoys ask for."""

METADATA = "lab.tenant"
"""Namespace of the request's metadata that say whose share it uses up, for the filter that limits."""

ACCOUNT, CLAIMED, CLAIMS = "account", "claimed", "by"
"""What they say: an account; or a tenant that anybody may name, and the caller that does, who has an account of its own
for it; nothing if there is no limit."""

# Keys, tenants and callers have no blanks and no quotes in them, see lab.routing. A copy that is not to be had must not
# cost the request that it is of.
_LISTED = """
local function list(words)
  local found = {}
  for word in words:gmatch("%S+") do found[word] = true end
  return found
end

local any = list("ANY")

-- Whether the request's key is on the list; one that is not is answered.
local function listed(handle, headers, may)
  if not may[headers:get("x-routing-key")] then
    handle:respond({[":status"] = "503", ["grpc-status"] = "14"}, "no such key for this caller")
    return false
  elseif not may[headers:get("x-shadow-key") or ""] then
    headers:remove("x-shadow-key")
  end
  return true
end
"""
_OF_ONE = """
function envoy_on_request(handle)
  local headers = handle:headers()
  if passes(handle, headers) then listed(handle, headers, any) end
end
"""
_OF_ALL = """
local lists, owners, rated = {LISTS}, {OWNERS}, {RATED}

-- Who has proved to be which caller; nil where nobody proves anything, and of the operator, who may be any.
local function proved(handle)
  local secured = handle:streamInfo():downstreamSslConnection()
  local uri = secured and (secured:uriSanPeerCertificate()[1] or "")
  if uri and uri:sub(1, OPERATOR_LENGTH) ~= "OPERATOR" then return uri end
end

-- Charges the request to a tenant, or to its caller if the tenant is no more than a word.
local function charge(handle, headers, caller)
  local times = headers:getNumValues("x-tenant")
  if times > 1 then
    handle:respond({[":status"] = "400", ["grpc-status"] = "3"}, "x-tenant: send none or exactly one")
    return
  end
  if times == 0 then headers:add("x-tenant", "%") end
  local tenant = headers:get("x-tenant")
  if caller and owners[tenant] and not owners[tenant][caller] then
    handle:respond({[":status"] = "403", ["grpc-status"] = "7"}, "this caller may not name tenant '" .. tenant ..
      "': those who may are in tenants." .. tenant .. ".callers of the route table")
    return
  end
  local metadata, limited = handle:streamInfo():dynamicMetadata(), rated[tenant]
  if limited and caller and not owners[tenant] then
    metadata:set("METADATA", "CLAIMED", tenant)
    metadata:set("METADATA", "CLAIMS", caller)
  elseif limited ~= false then
    metadata:set("METADATA", "ACCOUNT", limited and tenant or caller or tenant)
  end
end

function envoy_on_request(handle)
  local headers, caller = handle:headers(), proved(handle)
  local may = caller and (lists[caller] or {}) or any
  if passes(handle, headers) and listed(handle, headers, may) then charge(handle, headers, caller) end
end
"""


def key_list(keys: Iterable[str]) -> Resource:
    """The filter of an Envoy that stands beside one caller.

    Args:
        keys: what it lets through.
    """
    return _filter(_LISTED + _OF_ONE, ANY=" ".join(sorted(keys)))


def shared_key_list(
    keys: Iterable[str], of_callers: Mapping[str, Iterable[str]], tenants: Mapping[str, Mapping[str, Any]]
) -> Resource:
    """The filter of an Envoy that all callers share.

    Args:
        keys: what it lets through where nobody proves anything.
        of_callers: what each of those may use who prove who they are.
        tenants: the route table's section.
    """
    operator, limits = Identity(OPERATOR, "").uri, limits_of(tenants)
    return _filter(
        _LISTED + _OF_ALL,
        ANY=" ".join(sorted(keys)),
        LISTS=_table({_uri(caller): its for caller, its in of_callers.items()}),
        OWNERS=_table({tenant: map(_uri, each.callers) for tenant, each in limits.items() if each.callers}),
        RATED=", ".join(
            f'["{tenant}"] = {str(each.rate is not None).lower()}'
            for tenant, each in sorted(limits.items())
            if tenant != DEFAULT
        ),
        OPERATOR_LENGTH=str(len(operator)),
        OPERATOR=operator,
        METADATA=METADATA,
        ACCOUNT=ACCOUNT,
        CLAIMED=CLAIMED,
        CLAIMS=CLAIMS,
    )


def _uri(caller: str) -> str:
    return Identity("caller", caller).uri


def _table(lists: Mapping[str, Iterable[str]]) -> str:
    return ", ".join(f'["{name}"] = list("{" ".join(sorted(its))}")' for name, its in sorted(lists.items()))


def _filter(script: str, **parts: str) -> Resource:
    # In one go: what is put in may be spelled like a part.
    script = re.sub("|".join(parts), lambda name: parts[name[0]], script)
    filter_ = lua_pb2.Lua(default_source_code=base_pb2.DataSource(inline_string=GUARD + script))
    return resource(NAME, extension_pb2.TypedExtensionConfig(name=NAME, typed_config=packed(filter_)))
