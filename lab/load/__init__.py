"""Load: when requests arrive, who asks for what, and the process that sends them and records the history.

A :class:`LoadPlan` goes in; a spool of records and a summary come out. Two engines do that: ``driver``, an open loop,
and ``locust``, the interactive one. Judging the answers belongs in ``lab.checkers``.
"""
