"""A lab far larger than its machine: thousands of clusters, each with addresses of its own, on one model host.

Here belongs how such a lab is laid out, changed and measured. How any lab is driven and judged lives below.
"""
