"""Directory assistance: answers where a request is to go, apart from its payload.

Here belongs what a resolver process does. How it decides lives in ``lab.routing``, who uses it in ``lab.client``.
"""
