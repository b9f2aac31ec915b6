"""``lab bench``, ``lab bench since``, ``lab capacity`` and ``lab scale``, found by entry points.

Parsing options and printing results belong here.
"""
