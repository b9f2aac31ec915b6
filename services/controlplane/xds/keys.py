"""Which routing keys an Envoy lets through: a filter, with the guard of their form, that it has before it listens.

A key that is not on the list is refused there and then. Nothing is asked of the control plane for it and nothing is
kept of it, so that whoever makes keys up costs a sidecar no memory, and learns nothing of what others use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy.config.core.v3 import base_pb2, extension_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2

from lab.identity import OPERATOR, Identity
from lab.routing.keys_in_lua import GUARD
from services.controlplane.xds.resources import Resource, packed, resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NAME = "keys"
"""Of the filter, and so of the resource that Envoys ask for."""

# Keys have no blanks and no quotes in them, see lab.routing.keys. A copy that is not to be had must not cost the
# request that it is of.
_SCRIPT = """
local function list(keys)
  local found = {}
  for key in keys:gmatch("%S+") do found[key] = true end
  return found
end

local any = list("ANY")
local lists = {LISTS}

local function list_for(handle)
  local secured = handle:streamInfo():downstreamSslConnection()
  if not secured or not next(lists) then return any end
  local uri = secured:uriSanPeerCertificate()[1] or ""
  return lists[uri] or (uri:sub(1, OPERATOR_LENGTH) == "OPERATOR" and any) or {}
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if not passes(handle, headers) then return end
  local may = list_for(handle)
  if not may[headers:get("x-routing-key")] then
    handle:respond({[":status"] = "503", ["grpc-status"] = "14"}, "no such key for this caller")
  elseif not may[headers:get("x-shadow-key") or ""] then
    headers:remove("x-shadow-key")
  end
end
"""


def key_list(keys: Iterable[str], of_callers: Mapping[str, Iterable[str]] | None = None) -> Resource:
    """The filter.

    Args:
        keys: what it lets through.
        of_callers: of an Envoy that several callers share and prove to who they are: what each of them may use.
    """
    operator = Identity(OPERATOR, "").uri
    lists = ", ".join(
        f'["{Identity("caller", caller).uri}"] = list("{" ".join(sorted(its))}")'
        for caller, its in sorted((of_callers or {}).items())
    )
    script = (
        _SCRIPT.replace("OPERATOR_LENGTH", str(len(operator)))
        .replace("OPERATOR", operator)
        .replace("ANY", " ".join(sorted(keys)))
        .replace("LISTS", lists)
    )
    filter_ = lua_pb2.Lua(default_source_code=base_pb2.DataSource(inline_string=GUARD + script))
    return resource(NAME, extension_pb2.TypedExtensionConfig(name=NAME, typed_config=packed(filter_)))
