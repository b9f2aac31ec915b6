"""Keeps the text of each published route table in the lab's folder, and copies it into the folders of runs.

The publisher keeps it, not the control plane: a control plane that reads a table wrongly must not vouch for itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.checkers.plain_table import document_of
from lab.errors import RouteTableError, RunError
from lab.routing.yaml_nodes import parse
from lab.runs.folder import MALFORMED, PUBLISHED, read_json

_KEPT = "published"


def keep_published(lab: Path, revision: int, sources: Sequence[tuple[str, str]]) -> None:
    """Keeps name and text of each file of a revision in the lab's folder."""
    (lab / _KEPT).mkdir(exist_ok=True)
    (lab / _KEPT / f"{revision}.json").write_text(json.dumps(list(sources)))


def keep_rollback(lab: Path, revision: int, to: int) -> None:
    """Keeps for a revision the text of the one to which it goes back, if that is known."""
    kept = lab / _KEPT / f"{to}.json"
    if kept.exists():
        kept.with_name(f"{revision}.json").write_bytes(kept.read_bytes())


def save_published(folder: Path, lab: Path, revisions: Sequence[int]) -> None:
    """Writes the texts of these revisions, as far as they are known, into a run's folder."""
    kept = {number: lab / _KEPT / f"{number}.json" for number in revisions}
    texts = {number: read_json(path) for number, path in kept.items() if path.exists()}
    if texts:
        (folder / PUBLISHED).write_text(json.dumps(texts))


def published_in(folder: Path) -> dict[int, dict[str, Any]]:
    """Returns the published tables of a run by revision, as the checkers read their text.

    Raises:
        RunError: the file holds something else.
    """
    path = folder / PUBLISHED
    if not path.exists():
        return {}
    try:
        return {int(number): _document(files) for number, files in read_json(path).items()}
    except (RouteTableError, *MALFORMED) as error:
        raise RunError(f"{path}: no texts of route tables ({error}); restore the file, or remove it") from error


def _document(files: Sequence[tuple[str, str]]) -> dict[str, Any]:
    for name, text in files:
        if "&" in text:  # aliases of aliases grow without bound, and the checkers' own reader follows them all
            parse(text, name)
    return document_of([text for _, text in files])
