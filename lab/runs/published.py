"""Keeps the text of each published route table in the lab's folder, for the runs that it routes.

The publisher keeps it, not the control plane: a control plane that reads a table wrongly must not vouch for itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.runs.folder import read_json

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


def keeps_text(lab: Path, revision: int) -> bool:
    """Whether the text of a revision is to be there: not of one that changed single use cases, as a rollout does.

    Those follow one of a whole table, whose text is kept.
    """
    return (lab / _KEPT / f"{revision}.json").exists() or not any((lab / _KEPT).glob("*.json"))


def kept_texts(lab: Path, revisions: Sequence[int]) -> dict[int, Any]:
    """Returns name and text of each file of these revisions, as far as they are known."""
    kept = {number: lab / _KEPT / f"{number}.json" for number in revisions}
    return {number: read_json(path) for number, path in kept.items() if path.exists()}
