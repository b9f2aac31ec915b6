"""Controls of proxies that the lab configures itself, one file for each kind.

:data:`lab.plugins.conform.CONTROLS` finds them here, at the entry points of the group
``routing_lab.conformance_controls``, and in the files of ``--plugin``.
"""
