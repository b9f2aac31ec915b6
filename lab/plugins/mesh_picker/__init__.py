"""The caller's client picks the replica of each request, from signals that come from a unit beside it.

Here belong the topology, its units and the client's picks. The policies are those of ``lab.pickers``.
"""
