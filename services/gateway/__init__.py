"""The operator: every payload passes through it, is parsed, routed and serialised again.

Here belongs what a gateway process does. How it decides lives in ``lab.routing``.
"""
