"""The filter of an Envoy that lets only permitted routing keys through; the Envoy has it before it listens.

A key that is not on the list is refused inside the Envoy. The control plane is not asked and nothing is stored, so
made-up keys cost no memory and reveal nothing about other callers' keys.

In an Envoy that all callers share, the filter also picks the tenant whose limit a request counts against: by the
caller's certificate, as a gateway does (:meth:`services.gateway.tenant_quota.Limiter.enter`), not by a header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from envoy.config.core.v3 import base_pb2, extension_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2

from lab.identity import OPERATOR, Identity
from lab.routing.headers import PROVED_CALLER
from lab.routing.keys_in_lua import GUARD
from lab.routing.limits import DEFAULT, limits_of
from services.controlplane.xds.resources import Resource, packed, resource

NAME = "keys"
"""Name of the filter, and so of the resource that Envoys subscribe to."""

METADATA = "lab.tenant"
"""Metadata namespace through which the rate limit filter learns whom a request counts against."""

ACCOUNT, CLAIMED, CLAIMS = "account", "claimed", "by"
"""Its fields: an account, or a tenant that anybody may claim together with the claiming caller.

In the second case each caller has its own account for that tenant. All are absent if there is no limit.
"""

# Keys, tenants and callers contain no blanks and no quotes, see lab.routing. If the shadow's key is not permitted, the
# request still passes, without its copy.
_LISTED = """
local function list(words)
  local found = {}
  for word in words:gmatch("%S+") do found[word] = true end
  return found
end

local any = list("ANY")

-- Whether the request's key is permitted; if not, the request is answered here.
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
# Envoy's own check of a certificate takes one of whose URIs *any* is permitted; such a certificate would be the first
# URI here, and another one elsewhere.
_IDENTIFIED = """
-- URI that the client's certificate proves, empty in plaintext. Nil unless it has exactly one; then the request is
-- answered here.
local function identified(handle)
  local secured = handle:streamInfo():downstreamSslConnection()
  local uris = secured and secured:uriSanPeerCertificate() or {""}
  if #uris == 1 then return uris[1] end
  handle:respond({[":status"] = "403", ["grpc-status"] = "7"}, "your certificate names " .. #uris ..
    " identities; exactly one is accepted")
end
"""
_OF_ONE = """
function envoy_on_request(handle)
  local headers = handle:headers()
  if identified(handle) and passes(handle, headers) then listed(handle, headers, any) end
end
"""
_OF_ALL = """
local lists, owners, rated = {LISTS}, {OWNERS}, {RATED}

-- Tells the model whom the certificate names, as only the model reads whom the body names.
local function vouch(headers, caller)
  if caller then
    headers:replace("PROVED", caller:match("[^/]*$"))
  else
    headers:remove("PROVED")
  end
end

-- The authenticated caller; nil without authentication, and for the operator, who may act as any caller.
local function caller_of(uri)
  if uri ~= "" and uri:sub(1, OPERATOR_LENGTH) ~= "OPERATOR" then return uri end
end

-- Picks the account to charge: a limited tenant's, one per caller if the tenant has no owner, or else the caller's.
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
  local headers, uri = handle:headers(), identified(handle)
  if not uri then return end
  local caller = caller_of(uri)
  local may = caller and (lists[caller] or {}) or any
  vouch(headers, caller)
  if passes(handle, headers) and listed(handle, headers, may) then charge(handle, headers, caller) end
end
"""


def key_list(keys: Iterable[str]) -> Resource:
    """The filter of a sidecar.

    Args:
        keys: the permitted keys.
    """
    return _filter(_IDENTIFIED + _LISTED + _OF_ONE, ANY=" ".join(sorted(keys)))


def shared_key_list(
    keys: Iterable[str], of_callers: Mapping[str, Iterable[str]], tenants: Mapping[str, Mapping[str, Any]]
) -> Resource:
    """The filter of an Envoy that all callers share.

    Args:
        keys: permitted where peers do not authenticate.
        of_callers: the keys permitted to each authenticated caller.
        tenants: the route table's section.
    """
    operator, limits = Identity(OPERATOR, "").uri, limits_of(tenants)
    return _filter(
        _IDENTIFIED + _LISTED + _OF_ALL,
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
        PROVED=PROVED_CALLER,
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
    # In one pass: an inserted value may contain a placeholder's name.
    script = re.sub("|".join(parts), lambda name: parts[name[0]], script)
    filter_ = lua_pb2.Lua(default_source_code=base_pb2.DataSource(inline_string=GUARD + script))
    return resource(NAME, extension_pb2.TypedExtensionConfig(name=NAME, typed_config=packed(filter_)))
