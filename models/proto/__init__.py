"""The wire: each ``.proto`` and, beside it, what ``make protos`` generates from it.

Here belongs nothing written by hand but the ``.proto`` files and their generator.
"""
