"""What a run's resolvers were asked, as Parquet; pyarrow is imported lazily, see ``lab.history.parquet``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lab.errors import RunError
from lab.history.parquet import RowFormat
from lab.reading import parse_json

_KNOWN_FROM = "known_from_ns"


class Question(NamedTuple):
    """One question at one resolver.

    Attributes:
        request_id: of the request that needed the decision; empty if the question names none.
        resolver: that was asked.
        asked_ns: Unix nanoseconds.
    """

    request_id: str
    resolver: str
    asked_ns: int


class Questions(NamedTuple):
    """What resolvers were asked, in no order, and since when each knows all of it, by name.

    That is in Unix nanoseconds; None for one that could not be asked.
    """

    asked: Sequence[Question]
    known_from_ns: Mapping[str, int | None]


_FORMAT = RowFormat(Question, "what resolvers were asked")


def write_questions(path: Path, questions: Questions) -> None:
    """Writes what resolvers were asked; see :meth:`lab.history.parquet.RowFormat.write`."""
    _FORMAT.write(path, questions.asked, {_KNOWN_FROM: json.dumps(questions.known_from_ns)})


def read_questions(path: Path) -> Questions:
    """Returns what resolvers were asked.

    Raises:
        RunError: the file is missing, or holds something else.
    """
    table = _FORMAT.table(path)
    try:
        said = parse_json(table.schema.metadata[_KNOWN_FROM.encode()].decode())
        known_from_ns = {str(name): None if since is None else int(since) for name, since in said.items()}
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise RunError(f"{path}: does not say what each resolver could ({error}); restore the file") from error
    return Questions(_FORMAT.rows(table), known_from_ns)
