"""xDS for Envoys, and for gRPC libraries that route by themselves.

The form of clusters and endpoints, and the streams that carry them, belong here. When they change is decided in
``publishing``.
"""
