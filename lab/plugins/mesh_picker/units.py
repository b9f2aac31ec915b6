"""Roles of the units of a lab whose callers pick replicas by themselves."""

SIGNALS, SIDECAR = "replica-signals", "picker-sidecar"
"""Beside each caller: what passes the replicas' load on and keeps the caller's picks, and the Envoy that obeys them."""
