"""Operating a lab: bring-up, teardown, status, logs, routes, certificates, and the doctor's checks of this machine.

Faults are in ``lab.faults``, load in ``lab.runs``, rollouts in ``lab.roll``.
"""
