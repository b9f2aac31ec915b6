"""A testbed for routing ML inference traffic: gateway against sidecar mesh, with evidence.

Here belongs what an engineer imports and runs. What runs as a process of its own lives in ``services`` and ``models``.
"""
