"""An Envoy on the address under test, configured for conformance alone."""

from __future__ import annotations

from lab.plugins.conform.control import Control
from lab.plugins.conform.forms import BY_HEADER
from lab.plugins.conform.rendered import RenderedProxy

_ENVOY = RenderedProxy("envoy")
# Envoy says GOAWAY on a connection as it answers a request; those without any end with the process, unannounced.
ENVOY = Control(name="envoy", only=BY_HEADER, apply=_ENVOY.apply, close=_ENVOY.close)
