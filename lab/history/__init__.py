"""The record of every request of a run, and its two forms on disk: a spool while it runs, Parquet for keeps.

What a record *proves* is for ``lab.checkers``; what the times add up to, for ``lab.measure`` and ``lab.load``.
"""

from lab.history.columns import Columns, read_columns
from lab.history.parquet import read_parquet, write_parquet
from lab.history.record import NONE_SEEN, UNSENT, Record
from lab.history.spool import SpoolWriter, read_spool

__all__ = [
    "NONE_SEEN",
    "UNSENT",
    "Columns",
    "Record",
    "SpoolWriter",
    "read_columns",
    "read_parquet",
    "read_spool",
    "write_parquet",
]
