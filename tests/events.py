"""Events of a lab, built as unit operations write them."""

from __future__ import annotations

from lab.runs.events import Event

_WORDS = {
    "kill": ("killed", "start"),
    "pause": ("paused", "resume"),
    "start": ("started", ""),
    "resume": ("resumed", ""),
    "scale": ("scaled", ""),
}


def event(kind: str, target: str, from_ns: int, until_ns: int, detail: str = "") -> Event:
    past, undone_by = _WORDS[kind]
    return Event(
        kind=kind, target=target, from_ns=from_ns, until_ns=until_ns, detail=detail, past=past, undone_by=undone_by
    )
