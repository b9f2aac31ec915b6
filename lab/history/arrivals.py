"""What model replicas received during a run, as Parquet; pyarrow is imported lazily, see ``lab.history.parquet``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from lab.errors import RunError
from lab.history.parquet import open_parquet
from lab.reading import parse_json

NOT_RECORDED = "?"
"""Value of ``via`` in runs of earlier releases."""

_HEARD = b"replicas"


class Arrival(NamedTuple):
    """One request at one replica, whether it was served or refused. Times are Unix nanoseconds.

    Attributes:
        routing_key: of the header; without one, of the version in the body.
        is_copy: whether it is a shadow copy.
        tenant: in the body, empty if it has none.
        received: the receipt, hexadecimal, see :mod:`models.stub.receipts`; empty if there is none.
        ended_ns: 0 if it was under way when the replica was asked.
        status: name of its gRPC status, ``CANCELLED`` if the caller left; empty if it was under way.
        via: header of the units that it had passed, see :data:`lab.routing.headers.VIA`; empty without one.
    """

    request_id: str
    replica: str
    routing_key: str
    is_copy: bool
    tenant: str
    received: str
    arrived_ns: int
    ended_ns: int
    status: str
    via: str = NOT_RECORDED


class ArrivalCoverage(NamedTuple):
    """What a replica could say about what it received.

    Attributes:
        known_from_ns: since when nothing is missing, Unix nanoseconds; None if it could not be asked.
        began_ns: when its process began, Unix nanoseconds.
        error: why it could not be asked; empty if it could.
    """

    known_from_ns: int | None
    began_ns: int = 0
    error: str = ""


def write_arrivals(path: Path, arrivals: Sequence[Arrival], heard: Mapping[str, ArrivalCoverage]) -> None:
    """Writes what replicas received, and what each could say.

    Raises:
        RunError: the file cannot be written.
    """
    pa, pq = import_module("pyarrow"), import_module("pyarrow.parquet")
    schema = _schema(pa).with_metadata({_HEARD: json.dumps({name: list(each) for name, each in heard.items()})})
    columns = zip(*arrivals, strict=True) if arrivals else [()] * len(schema)
    table = pa.Table.from_arrays(
        [pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
    try:
        pq.write_table(table, path, compression="zstd")
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error}") from error


def read_arrivals(path: Path) -> tuple[list[Arrival], dict[str, ArrivalCoverage]]:
    """Returns what replicas received, in no order, and what each could say.

    Raises:
        RunError: the file is missing, or holds something else.
    """
    pa = import_module("pyarrow")
    schema = _schema(pa)
    try:
        with open_parquet(path) as file:
            table = file.read(use_threads=False)
        table.validate(full=True)
        if "via" not in table.column_names:
            table = table.append_column(schema.field("via"), pa.array([NOT_RECORDED] * table.num_rows))
        if not table.schema.equals(schema):
            table = table.cast(schema.with_metadata(table.schema.metadata))  # raises for other columns
        heard = {
            name: ArrivalCoverage(*each) for name, each in parse_json(table.schema.metadata[_HEARD].decode()).items()
        }
        columns = [table.column(name).to_pylist() for name in Arrival._fields]
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise RunError(f"{path}: cannot be read as what replicas received ({error}); restore the file") from error
    return [Arrival(*values) for values in zip(*columns, strict=True)], heard


def _schema(pa: Any) -> Any:
    arrow_types = {str: pa.string(), int: pa.int64(), bool: pa.bool_()}
    return pa.schema(
        [pa.field(name, arrow_types[kind], nullable=False) for name, kind in get_type_hints(Arrival).items()]
    )
