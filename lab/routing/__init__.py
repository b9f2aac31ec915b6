"""Route table → compiled rules → decision: pure, no I/O, no gRPC.

Here belongs what decides where a request goes. What sends requests lives in ``services`` and ``lab.client``.

``keys``, ``buckets``, ``rules``, ``explanation`` and ``compiled`` are what services load: the standard library only.
``document`` (with ``tree``, ``schema`` and ``checks``) reads and judges what people write, for the command line and the
control plane; it brings pydantic and yaml, and is the one place of this folder that opens files.
"""
