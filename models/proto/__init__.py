"""The messages and services on the wire: each ``.proto``, and the code that ``make protos`` generates beside it.

Only the ``.proto`` files and their generator are written by hand.
"""
