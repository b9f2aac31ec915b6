"""A lab far larger than its machine: thousands of clusters, each at addresses of its own, on one model host.

Here belongs what such a lab is made of, and what is done to it. How any lab is driven and judged lives below.
"""
