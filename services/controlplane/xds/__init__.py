"""xDS: what a sidecar's Envoy is told, by the protocol it understands.

Here belongs how clusters and endpoints look and travel. When they change is decided in ``publish`` and ``membership``.
"""
