"""Capacity beyond this machine: fleets computed from measured costs, and queues simulated.

Here belongs pure arithmetic and simulation. Measuring costs is in ``lab.plugins.bench``.
"""
