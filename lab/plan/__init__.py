"""From spec to plan: which units run, with which command, and at which addresses they find each other.

Here belongs what is the same on every runtime. How units start and stop is in ``lab.runtime``.
"""
