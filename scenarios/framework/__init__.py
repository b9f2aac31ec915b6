"""The pytest machinery under the scenarios: steps, steady state, reruns, scheduling, the catalogue.

Here belongs what runs scenarios. The scenarios themselves are the modules ``scenarios/test_*.py``.
"""
