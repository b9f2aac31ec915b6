"""A history by columns, so that a report of a million requests needs no object for each.

Numbers are numpy arrays, 8 bytes a request. Columns of words are dictionary-encoded, 4 bytes a request. pyarrow, and
numpy with it, is imported inside the functions, see ``lab.history.parquet``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.history.parquet import HISTORY
from lab.history.record import FIELDS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lab.history.record import Record


@dataclass(frozen=True, slots=True)
class Columns:
    """Some or all columns of a history, one row a request.

    Attributes:
        table: an Arrow table.
    """

    table: Any

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def numbers(self, name: str) -> npt.NDArray[np.int64]:
        """Returns a column of integers.

        Raises:
            KeyError: it was not read.
        """
        numbers: npt.NDArray[np.int64] = self.table.column(name).to_numpy()
        return numbers

    def words(self, name: str) -> tuple[npt.NDArray[np.int32], Sequence[str]]:
        """Returns a column of words: each row's index, and the distinct words.

        Raises:
            KeyError: it was not read.
        """
        encoded = self.table.column(name).combine_chunks().dictionary_encode()
        if not len(self):
            return encoded.indices.to_numpy(), ()
        return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()

    def is_word(self, name: str, word: str) -> npt.NDArray[np.bool_]:
        """Returns for each row whether the column has this word.

        Raises:
            KeyError: it was not read.
        """
        compute = import_module("pyarrow.compute")
        found: npt.NDArray[np.bool_] = compute.equal(self.table.column(name), word).to_numpy()
        return found

    def records(self) -> list[Record]:
        """Returns all rows as records, about 1.5 KB each; every column must have been read."""
        return HISTORY.rows(self.table)


def read_columns(path: Path, names: Collection[str] = FIELDS) -> Columns:
    """Returns some columns of a history.

    Args:
        path: Parquet.
        names: fields of a record.

    Raises:
        RunError: as :func:`lab.history.read_parquet` does.
    """
    return Columns(HISTORY.table(path, names))
