"""xDS: what Envoys, and gRPC libraries that route by themselves, are told, by the protocol they understand.

Here belongs how clusters and endpoints look and travel. When they change is decided in ``publish`` and ``membership``.
"""
