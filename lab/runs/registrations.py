"""Saves, in a run's folder, when which model replicas were registered, and reads it for checkers.

The control plane is asked before and after the run. One that has been restarted in between knows nothing of the time
before its restart: what lies between the first answer and that is a gap.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.checkers import Registration, Registrations
from lab.client.admin_values import Registration as KnownRegistration
from lab.client.admin_values import Registrations as Known
from lab.runs.folder import REGISTRATIONS, parsed

if TYPE_CHECKING:
    Answers = Sequence[Known]
    """Of each control plane."""


def save_registrations(folder: Path, before: Answers, after: Answers, *, asked_ns: int) -> None:
    """Writes what control planes answered before the run, at ``asked_ns`` (Unix nanoseconds), and after it."""
    document = {
        "asked_ns": asked_ns,
        "before": [asdict(each) for each in before],
        "after": [asdict(each) for each in after],
    }
    (folder / REGISTRATIONS).write_text(json.dumps(document))


def registrations_in(folder: Path) -> Registrations | None:
    """Returns the registrations during a run; None if no control plane was asked, or none answered after it.

    Raises:
        RunError: the file holds something else.
    """
    path = folder / REGISTRATIONS
    if not path.exists():
        return None
    return parsed(path, _registrations, "no registrations of replicas; name the folder of a finished run")


def _registrations(document: Any) -> Registrations | None:
    before, after = (list(map(_known, document[when])) for when in ("before", "after"))
    return merged(before, after, asked_ns=int(document["asked_ns"]))


def _known(document: Any) -> Known:
    return Known(document["since_ns"], tuple(KnownRegistration(**each) for each in document["replicas"]))


def merged(before: Answers, after: Answers, *, asked_ns: int) -> Registrations | None:
    """Returns what the answers before and after a run say together; None if no control plane answered after it."""
    if not after:
        return None
    since_ns = max(known.since_ns for known in after)
    found: dict[tuple[str, str, int], Registration] = {}
    for answers, end_ns in ((before, since_ns), (after, None)):
        for each in (registration for known in answers for registration in known.replicas):
            key = (each.cluster, each.replica, each.from_ns)
            found[key] = Registration(*key, end_ns if each.until_ns is None else each.until_ns)
    from_ns = asked_ns if before else 0
    return Registrations(list(found.values()), (from_ns, since_ns) if from_ns < since_ns else None)
