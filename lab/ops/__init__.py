"""Operating a lab: bring-up, teardown, status, logs, routes, rollouts, certificates, and checks of this machine.

Faults are in ``lab.faults``, load in ``lab.runs``.
"""
