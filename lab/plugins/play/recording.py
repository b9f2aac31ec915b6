"""The events of a play, as one JSON object a line: what terminal, console, replay and picture all show."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from math import inf
from threading import RLock
from typing import TYPE_CHECKING, Any

from lab.errors import InputError, RunError
from lab.plugins.console import PLAY
from lab.reading import NotTextError, read_text

if TYPE_CHECKING:
    from pathlib import Path

    from lab.plugins.play.act import Act

Event = Mapping[str, Any]
"""``at_s`` since the curtain rose, ``event``, and what that one has.

===========  ==========================================================================================
``begins``   ``acts``, ``runtime``, ``date``
``act``      ``act``: its name; the act begins
``doing``    ``text``: what is done next
``live``     ``text``: the figure so far
``found``    ``act`` and the fields of :class:`lab.plugins.play.act.Finding`; the act is over
``paused``   the play waits before the next act; ``resumed``: it goes on
``ended``    ``how``: ``done`` or ``stopped``
===========  ==========================================================================================
"""

_NEEDS = {
    "begins": ("acts",),
    "act": ("act",),
    "doing": ("text",),
    "live": ("text",),
    "found": ("act", "figure", "shown", "basis"),
    "paused": (),
    "resumed": (),
    "ended": ("how",),
}
_DONE = {True: "shown", False: "not shown"}


class Recording:
    """Takes the events of a play, from any thread, and passes each on.

    Args:
        file: gets a line for each event.
        board: file that holds the state after the latest event, see :func:`state_of`, for the console.
        show: called with each event.
    """

    def __init__(self, file: Path, board: Path, show: Callable[[Event], None]) -> None:
        self._board, self._show = board, show
        self._began, self._lock = time.monotonic(), RLock()
        self.events: list[Event] = []
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._file = file.open("w", encoding="utf-8")
        except OSError as error:
            raise RunError(f"{file}: cannot be written: {error.strerror}; name another with --save") from error

    def add(self, event: str, **values: Any) -> None:
        """Takes an event that happens now."""
        with self._lock:
            taken = {"at_s": round(time.monotonic() - self._began, 2), "event": event, **values}
            if event == "live" and self.events[-1].get("text") == values["text"]:
                return
            self.events.append(taken)
            self._file.write(json.dumps(taken, ensure_ascii=False) + "\n")
            self._file.flush()
            self._post()
            self._show(taken)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _post(self) -> None:
        with suppress(OSError):  # the lab was taken down meanwhile
            scratch = self._board.with_suffix(".new")
            scratch.write_text(json.dumps(state_of(self.events)))
            scratch.replace(self._board)


def board_of(folder: Path) -> Path:
    """The file in a lab's folder from which the console shows the play."""
    return folder / PLAY


def begins(acts: Sequence[Act], runtime: str) -> dict[str, Any]:
    """The values of the first event."""
    date = time.strftime("%Y-%m-%d")
    return {"acts": [act.to_document() for act in acts], "runtime": runtime, "date": date}


def state_of(events: Iterable[Event]) -> dict[str, Any]:
    """What a play is at after these events: ``acts`` with ``state`` and ``figure``, ``doing``, ``state``."""
    state: dict[str, Any] = {"acts": [], "doing": "", "state": "playing"}
    acts: dict[str, dict[str, Any]] = {}
    for event in events:
        match event["event"]:
            case "begins":
                acts = {each["name"]: {**each, "state": "waits", "figure": ""} for each in event["acts"]}
                state["acts"] = list(acts.values())
            case "act":
                acts[event["act"]]["state"] = "playing"
            case "doing":
                state["doing"] = event["text"]
            case "live":
                _playing(acts)["figure"] = event["text"]
            case "found":
                found = {name: value for name, value in event.items() if name not in ("at_s", "event", "act")}
                acts[event["act"]] |= {**found, "state": _DONE[event["shown"]]}
                state["doing"] = ""
            case "paused" | "resumed":
                state["state"] = "paused" if event["event"] == "paused" else "playing"
            case _:
                state["state"] = event["how"]
    return state


def _playing(acts: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return next((each for each in acts.values() if each["state"] == "playing"), {})


def read(file: Path) -> list[Event]:
    """Reads a recorded play.

    Raises:
        InputError: the file cannot be read, or is not one.
    """
    events: list[Event] = []
    names: set[str] = set()
    try:
        lines = read_text(file).splitlines()
    except NotTextError as error:
        raise InputError(f"{file}:{error.lineno}: {error}; not a recorded play") from None
    for number, line in enumerate(lines, 1):
        try:
            event = _checked(json.loads(line), names)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            what = "not an event of a play; `lab play --save FILE` writes such files"
            raise InputError(f"{file}:{number}: {what}") from None
        events.append(event)
    if not events:
        raise InputError(f"{file}: holds no play; `lab play --save FILE` writes one")
    return events


def _checked(event: Event, names: set[str]) -> Event:
    """The event; ``names`` are those of the acts so far, and get those that it begins with.

    Raises:
        ValueError: it has not what it needs; of a wrong type it raises another error.
    """
    if event["event"] == "begins":
        names |= {str(each["name"]) for each in event["acts"] if each["title"] and each["sentence"] and each["number"]}
    needed = [event[name] for name in ("at_s", *_NEEDS[event["event"]])]
    texts = [event.get(name, "") for name in ("text", "figure", "basis", "doubt", "how")]
    is_right = "act" not in event or event["act"] in names
    if not (needed and is_right and 0 <= float(event["at_s"]) < inf and all(isinstance(each, str) for each in texts)):
        raise ValueError(event)
    if event["event"] == "found" and not isinstance(event["shown"], bool):
        raise ValueError(event)
    return event
