"""What no machine here can run: capacity computed from what was measured, and queues simulated.

Here belongs arithmetic over measured costs, and the simulation. Pure: nothing here measures, or knows a lab.
"""
