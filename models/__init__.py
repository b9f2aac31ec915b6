"""The models that requests are routed to: their APIs, and the stubs that stand in for real model servers.

What a model answers, and how it is called, belongs here. Which model is called is decided in ``lab.routing``.
"""
