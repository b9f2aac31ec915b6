"""The API gateway: every payload passes through it, parsed and re-serialised unless its envelope is in a header.

Here belongs what a gateway process does. How it decides lives in ``lab.routing``.
"""
