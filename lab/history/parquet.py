"""Reads and writes a run's history as Parquet, which other tools read, too.

pyarrow is imported inside the functions: it takes 40 MB, and the driver needs only the spool.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from lab.errors import RunError
from lab.history.record import DEFAULTS, FIELD_TYPES, FIELDS, Record, record_of, values_of
from lab.reading import require_regular

_ROW_GROUP = 65_536


def _pyarrow() -> tuple[Any, Any]:
    return import_module("pyarrow"), import_module("pyarrow.parquet")


def _schema() -> Any:
    pa, _ = _pyarrow()
    arrow_types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    columns = zip(FIELDS, FIELD_TYPES, strict=True)
    return pa.schema([pa.field(name, arrow_types[kind], nullable=False) for name, kind in columns])


def write_parquet(records: Sequence[Record], path: Path) -> None:
    """Writes a history: one column a field, one row a record, in the order given.

    Raises:
        RunError: the file cannot be written.
    """
    pa, pq = _pyarrow()
    schema = _schema()
    columns = zip(*map(values_of, records), strict=True) if records else [()] * len(FIELDS)
    table = pa.Table.from_arrays(
        [pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
    try:
        pq.write_table(table, path, compression="zstd", row_group_size=_ROW_GROUP)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error}") from error


def read_parquet(path: Path) -> list[Record]:
    """Returns a history's records. Other columns are ignored; fields with a default may be missing.

    Raises:
        RunError: the file is missing or no Parquet, or a column is missing, has another type, or has empty cells.
    """
    return records_of(read_table(path))


def records_of(table: Any) -> list[Record]:
    """Returns the records of a table from :func:`read_table` that has all fields."""
    columns = (
        table.column(name).to_pylist() if name in table.column_names else [DEFAULTS[name]] * table.num_rows
        for name in FIELDS
    )
    return [record_of(values) for values in zip(*columns, strict=True)]


def read_table(path: Path, names: Collection[str] = FIELDS) -> Any:
    """Returns some columns of a history as an Arrow table, in the order of a record's fields.

    Raises:
        RunError: as :func:`read_parquet` does.
    """
    pa, _ = _pyarrow()
    try:
        with open_parquet(path) as file:
            found = file.schema_arrow
            _check_columns(found, _schema(), path)
            wanted = [name for name in FIELDS if name in names and name in found.names]
            table = file.read(columns=wanted, use_threads=False)
        table.validate(full=True)  # checks UTF-8, too
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"{path}: cannot be read as a history ({reason}); name the history of a run") from error
    for name in wanted:
        if empty := table.column(name).null_count:
            raise RunError(f"{path}: {name}: {empty} empty cells; a record has every field; write the history again")
    return table


def open_parquet(path: Path) -> Any:
    """Opens one file as a ``pyarrow.parquet.ParquetFile``, which takes less to import than what reads folders of them.

    Raises:
        OSError: it is missing, or no file.
        pyarrow.ArrowException: it is no Parquet.
    """
    require_regular(path)
    return import_module("pyarrow.parquet").ParquetFile(path)


def _check_columns(found: Any, expected: Any, path: Path) -> None:
    missing = [name for name in expected.names if name not in found.names and name not in DEFAULTS]
    if missing:
        raise RunError(
            f"{path}: no column {', '.join(missing)}; write the history with lab.history.write_parquet, from the spool"
        )
    for field in expected:
        if field.name not in found.names:
            continue
        kind = found.field(field.name).type
        if kind != field.type:
            raise RunError(
                f"{path}: {field.name}: column of {kind} where {field.type} belongs; write it as {field.type}"
            )
