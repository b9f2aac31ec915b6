"""The models that traffic is routed to: their APIs, and the stubs that stand in for real ones.

Here belongs what a model answers and how it is asked. Who is asked is decided in ``lab.routing``.
"""
