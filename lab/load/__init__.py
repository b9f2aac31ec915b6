"""Open-loop load: when requests arrive, who asks for what, and the process that sends them and keeps the history.

What is written here ends at the history: whether answers were right is for ``lab.checkers``. A :class:`LoadPlan` goes
in, a spool and a summary come out; whatever turns the one into the other is an engine: ``driver`` is the
open loop, ``steered`` has Locust do it.
"""
