"""A history by columns: what a report needs of a million requests, without an object for each.

Numbers are numpy arrays, 8 bytes a request. A column of words is kept as the few that there are, and 4 bytes a request
that say which. numpy comes with pyarrow, inside the functions, for the reason given in ``lab.history.parquet``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lab.history.parquet import read_table, records_of
from lab.history.record import FIELDS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from lab.history.record import Record


@dataclass(frozen=True, slots=True)
class Columns:
    """Some or all columns of a history; a row is a request.

    Attributes:
        table: an Arrow table.
    """

    table: Any

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def numbers(self, name: str) -> npt.NDArray[np.int64]:
        """A column of whole numbers.

        Raises:
            KeyError: it was not read.
        """
        numbers: npt.NDArray[np.int64] = self.table.column(name).to_numpy()
        return numbers

    def words(self, name: str) -> tuple[npt.NDArray[np.int32], Sequence[str]]:
        """A column of words: for each row the number of its word, and the words.

        Raises:
            KeyError: it was not read.
        """
        encoded = self.table.column(name).combine_chunks().dictionary_encode()
        if not len(self):
            return encoded.indices.to_numpy(), ()
        return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()

    def is_word(self, name: str, word: str) -> npt.NDArray[np.bool_]:
        """For each row whether the column has this word there.

        Raises:
            KeyError: it was not read.
        """
        compute = import_module("pyarrow.compute")
        found: npt.NDArray[np.bool_] = compute.equal(self.table.column(name), word).to_numpy()
        return found

    def records(self) -> list[Record]:
        """All rows as records; every column must have been read. About 1.5 KB each."""
        return records_of(self.table)


def read_columns(path: Path, names: Collection[str] = FIELDS) -> Columns:
    """Reads some columns of a history.

    Args:
        path: Parquet.
        names: fields of a record.

    Raises:
        RunError: as :func:`lab.history.read_parquet` does.
    """
    return Columns(read_table(path, names))
