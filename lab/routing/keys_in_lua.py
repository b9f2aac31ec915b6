"""The check of a routing key's form in Lua, for Envoys.

It runs before the control plane is asked for anything. An Envoy's listener receives it together with the list of keys,
as one filter from the control plane; until then, no request passes. Copies pass the check again.
"""

from __future__ import annotations

import json

GUARD = """\
local function well_formed(headers, name)
  if headers:getNumValues(name) ~= 1 then
    return false
  end
  local key = headers:get(name)
  local model, version = (key:match("^(.*)%.s[1-9][0-9]?$") or key):match("^([a-z][a-z0-9-]*)%.v([0-9]+)$")
  return model and #model <= 63 and #version <= 9
end

-- Whether the request has the form; one that has not is answered.
local function passes(handle, headers)
  if not well_formed(headers, "x-routing-key") then
    handle:respond({[":status"] = "400", ["grpc-status"] = "3"}, "send exactly one, of the form model.v1")
    return false
  elseif headers:getNumValues("x-shadow-key") > 0 and not well_formed(headers, "x-shadow-key") then
    handle:respond({[":status"] = "400", ["grpc-status"] = "3"},
      "x-shadow-key: send none or exactly one, of the form model.v1")
    return false
  end
  -- The cluster to ask for; the filter `names` knows of those that have another name by now.
  headers:replace("x-cluster", headers:get("x-routing-key"))
  -- Envoy takes these two from a request alone, and drops what a client writes of them itself.
  local hedge = headers:get("x-hedge-ms")
  local try = hedge or headers:get("x-per-try-ms")
  if try then
    headers:replace("x-envoy-upstream-rq-per-try-timeout-ms", try)
    if hedge then
      headers:replace("x-envoy-hedge-on-per-try-timeout", "true")
    end
  end
  -- Neither Envoy's retries nor its hedges, whatever the cluster allows.
  if headers:get("x-retries-left") == "0" then
    headers:replace("x-envoy-max-retries", "0")
  end
  return true
end
"""
"""Lua: a function ``passes``. A route match would not do: it accepts a repeated header if any of its values matches."""

_ALONE = """
function envoy_on_request(handle)
  passes(handle, handle:headers())
end
"""
_UNTIL_LISTED = """
function envoy_on_request(handle)
  if passes(handle, handle:headers()) then
    handle:respond({[":status"] = "503", ["grpc-status"] = "14"}, "no list of keys has come yet")
  end
end
"""

IN_BOOTSTRAP = {"guard": json.dumps(GUARD + _ALONE), "until_listed": json.dumps(GUARD + _UNTIL_LISTED)}
"""Scripts in an Envoy's bootstrap by their names in the template, as JSON: for copies, and for requests at first."""
