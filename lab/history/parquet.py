"""Rows as Parquet, one column a field, which other tools read, too: a run's history, and other evidence of it.

pyarrow is imported inside the functions: it takes 40 MB, and the driver needs only the spool.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

from lab.errors import RunError
from lab.history.record import DEFAULTS, Record, values_of
from lab.reading import require_regular

Row = TypeVar("Row")

_ROW_GROUP = 65_536


class RowFormat(Generic[Row]):
    """How rows of one class are written and read.

    Args:
        row: a class made of its values in field order, each text, an integer, a float or a truth value.
        holds: what the rows are, in words.
        older: values of fields that older files lack.
    """

    def __init__(self, row: type[Row], holds: str, older: Mapping[str, Any] | None = None) -> None:
        self._row, self._holds, self._older = row, holds, older or {}
        self._types = get_type_hints(row)

    def write(self, path: Path, rows: Iterable[Sequence[Any]], metadata: Mapping[str, str] | None = None) -> None:
        """Writes rows, each by its values in field order, with texts about all of them.

        Raises:
            RunError: the file cannot be written.
        """
        pa, pq = import_module("pyarrow"), import_module("pyarrow.parquet")
        schema, left = self._schema(pa).with_metadata(metadata), iter(rows)
        try:
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                while group := list(islice(left, _ROW_GROUP)):
                    columns = zip(zip(*group, strict=True), schema.types, strict=True)
                    arrays = [pa.array(column, type=kind) for column, kind in columns]
                    writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error}") from error

    def table(self, path: Path, names: Collection[str] | None = None) -> Any:
        """Returns some columns, or all, as an Arrow table in field order. Columns of other names are ignored.

        Raises:
            RunError: the file is missing or no Parquet, or a column is missing, has another type, or has empty cells.
        """
        pa = import_module("pyarrow")
        try:
            with open_parquet(path) as file:
                self._check_columns(file.schema_arrow, self._schema(pa), path)
                found = file.schema_arrow.names
                wanted = [name for name in self._types if name in found and (names is None or name in names)]
                table = file.read(columns=wanted, use_threads=False)
            table.validate(full=True)  # checks UTF-8, too
        except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RunError(
                f"{path}: cannot be read as {self._holds} ({reason}); name the folder of a finished run"
            ) from error
        for name in wanted:
            if empty := table.column(name).null_count:
                raise RunError(f"{path}: {name}: {empty} empty cells; a row has every field; write the file again")
        return table

    def rows(self, table: Any) -> list[Row]:
        """Returns the rows of a table that has all columns of its file."""
        found = table.column_names
        columns = (
            table.column(name).to_pylist() if name in found else [self._older[name]] * table.num_rows
            for name in self._types
        )
        return [self._row(*values) for values in zip(*columns, strict=True)]

    def _schema(self, pa: Any) -> Any:
        arrow = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
        return pa.schema([pa.field(name, arrow[kind], nullable=False) for name, kind in self._types.items()])

    def _check_columns(self, found: Any, expected: Any, path: Path) -> None:
        missing = [name for name in expected.names if name not in found.names and name not in self._older]
        if missing:
            raise RunError(f"{path}: no column {', '.join(missing)}; write {self._holds} again")
        for field in expected:
            if field.name in found.names and (kind := found.field(field.name).type) != field.type:
                raise RunError(
                    f"{path}: {field.name}: column of {kind} where {field.type} belongs; write it as {field.type}"
                )


HISTORY = RowFormat(Record, "a history", DEFAULTS)


def write_parquet(records: Iterable[Record], path: Path) -> None:
    """Writes a history, in the order given; see :meth:`RowFormat.write`."""
    HISTORY.write(path, map(values_of, records))


def read_parquet(path: Path) -> list[Record]:
    """Returns a history's records; see :meth:`RowFormat.table`."""
    return HISTORY.rows(HISTORY.table(path))


def open_parquet(path: Path) -> Any:
    """Opens one file as a ``pyarrow.parquet.ParquetFile``, which takes less to import than what reads folders of them.

    Raises:
        OSError: it is missing, or no file.
        pyarrow.ArrowException: it is not Parquet.
    """
    require_regular(path)
    return import_module("pyarrow.parquet").ParquetFile(path)
