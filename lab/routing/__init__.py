"""Route table → compiled rules → decision: pure, no I/O, no gRPC.

What decides where a request goes belongs here. What sends requests belongs in ``services`` and ``lab.client``.

Services load only modules that need the standard library alone: ``keys``, ``buckets``, ``rules``, ``explanation``,
``compiled`` and their like. ``document``, ``yaml_nodes``, ``schema`` and ``checks`` read and validate tables for the
command line and the control plane: they need pydantic and yaml, and only ``document`` opens files.
"""
