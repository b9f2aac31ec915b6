"""Records of a run's requests, and their two forms on disk: a spool during the run, Parquet afterwards.

``lab.checkers`` judges records; ``lab.measure`` and ``lab.load`` compute figures from them.
"""

from lab.history.columns import Columns, read_columns
from lab.history.parquet import read_parquet, write_parquet
from lab.history.record import NONE_SEEN, UNSENT, Record, values_of
from lab.history.spool import SpoolTail, SpoolWriter, read_spool

__all__ = [
    "NONE_SEEN",
    "UNSENT",
    "Columns",
    "Record",
    "SpoolTail",
    "SpoolWriter",
    "read_columns",
    "read_parquet",
    "read_spool",
    "values_of",
    "write_parquet",
]
