"""Load: when requests arrive, who asks for what, and the process that sends them and records the history.

A :class:`LoadPlan` goes in; a spool of records and a summary come out. An engine does that, see
:mod:`lab.load.engines`. Judging the answers belongs in ``lab.checkers``.
"""
