"""The units of a lab with an endpoint picker, each the only one of its role, by name."""

PICKER = "picker"
OPEN, CLOSED, WITH_BODIES = "picking-envoy", "strict-envoy", "body-envoy"
"""Envoys that ask it: one that sends without a pick if it gets none, one that refuses then, as does one that
sends the picker bodies, too."""
ENVOYS = (OPEN, CLOSED, WITH_BODIES)
