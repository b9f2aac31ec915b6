"""The benches, one file each: a name, the claims it measures, and how.

Here belong benches only. What they share is in ``lab.plugins.bench.harness``.
"""
