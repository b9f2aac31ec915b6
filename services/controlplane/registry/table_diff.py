"""What one route table's document changes against another's, entry by entry: pure.

A change has the shape of a document: section → name → entry, or None for an entry that is gone. Tables that share
entries (``is``) are compared without a look into them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from lab.routing.edits import same

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")
Document = dict[str, dict[str, Any]]


def diff(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> Document:
    """What makes ``after`` of ``before``; sections without a change are left out."""
    change: Document = {}
    for section in before.keys() | after.keys():
        old, new = before.get(section, {}), after.get(section, {})
        entries = changed_entries(new, old) | dict.fromkeys(old.keys() - new.keys())
        if entries:
            change[section] = entries
    return change


def apply_diff(before: Mapping[str, Mapping[str, Any]], change: Mapping[str, Mapping[str, Any]]) -> Document:
    """The document after a change; ``before`` stays as it is."""
    after = {section: dict(entries) for section, entries in before.items()}
    for section, entries in change.items():
        target = after.setdefault(section, {})
        for name, entry in entries.items():
            if entry is None:
                target.pop(name, None)
            else:
                target[name] = entry
    return after


def changed_entries(entries: Mapping[str, T], before: Mapping[str, T]) -> dict[str, T]:
    """New and changed entries; those that both share (``is``) are not compared."""
    if entries is before:
        return {}
    get = before.get
    return {name: entry for name, entry in entries.items() if (old := get(name)) is not entry and not same(old, entry)}
