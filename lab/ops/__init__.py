"""Operating a lab that is up: bring-up, status, logs, published routes, certificates, clean-up.

Here belongs what the command line does to a running lab. Injecting faults is in ``lab.faults``, load in ``lab.runs``.
"""
