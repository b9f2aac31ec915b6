"""What the page shows at present: documents by kind and key, and who gets the changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any

import orjson

Documents = dict[str, dict[str, Any]]
"""By kind, then by key."""


class Board:
    """The documents that the page shows. Any thread may post; the page gets each change, and everything at first.

    Kinds: ``drawing`` and ``older`` by topology, ``traffic`` by topology and interval, ``run`` and ``verdict`` by the
    run's name, ``unit`` by its name, ``event`` by its number, ``revision`` by its number, ``play``, and ``lab``.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._documents: Documents = {}
        self._changed: Documents = {}
        self._cleared: set[str] = set()

    def post(self, kind: str, documents: Mapping[str, Any]) -> None:
        """Replaces documents of one kind by their keys."""
        with self._lock:
            shown = self._documents.setdefault(kind, {})
            news = {key: document for key, document in documents.items() if shown.get(key) != document}
            shown.update(news)
            if news:
                self._changed.setdefault(kind, {}).update(news)

    def drop(self, kind: str, keys: Iterable[str]) -> None:
        """Removes documents of which another tells the page that they have gone."""
        with self._lock:
            for key in keys:
                self._documents.get(kind, {}).pop(key, None)
                self._changed.get(kind, {}).pop(key, None)

    def clear(self, *kinds: str) -> None:
        """Removes all documents of these kinds."""
        with self._lock:
            for kind in kinds:
                self._documents.pop(kind, None)
                self._changed.pop(kind, None)
                self._cleared.add(kind)

    def everything(self) -> bytes:
        """All documents, as one message."""
        with self._lock:
            return message(self._documents, list(self._documents))

    def take_changes(self) -> bytes | None:
        """What has changed since the last call, as one message; None if nothing has."""
        with self._lock:
            if not self._changed and not self._cleared:
                return None
            changed = message(self._changed, self._cleared)
            self._changed, self._cleared = {}, set()
            return changed


def message(documents: Documents, cleared: Any) -> bytes:
    """A message to the page: kinds to forget first, then documents to take."""
    return orjson.dumps({"clear": list(cleared), "set": documents})
