"""The operator: every payload passes through it, and is parsed and serialised again unless its envelope is a header.

Here belongs what a gateway process does. How it decides lives in ``lab.routing``.
"""
