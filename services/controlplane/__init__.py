"""The control plane: stores revisions, publishes them in phases, registers replicas, serves xDS and the rules stream.

What each node holds, and when, is decided here. Parsing and matching of rules belong in ``lab.routing``. Its rooms from
the top: ``api``, ``publishing``, ``xds``, ``nodes``, ``registry``.
"""
