"""Diffs between the documents of two route tables, entry by entry: pure.

A diff has the shape of a document: section → name → entry, or None for a removed entry. Entries that two tables share
(``is``) are not compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from lab.routing.edits import same

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")
Document = dict[str, dict[str, Any]]


def diff(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> Document:
    """The diff that turns ``before`` into ``after``; unchanged sections are left out."""
    change: Document = {}
    for section in before.keys() | after.keys():
        old, new = before.get(section, {}), after.get(section, {})
        entries = changed_entries(new, old) | dict.fromkeys(old.keys() - new.keys())
        if entries:
            change[section] = entries
    return change


def apply_diff(before: Mapping[str, Mapping[str, Any]], change: Mapping[str, Mapping[str, Any]]) -> Document:
    """The document after a diff; ``before`` is not modified."""
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
    """New and changed entries; those that both tables share (``is``) are not compared."""
    if entries is before:
        return {}
    get = before.get
    return {name: entry for name, entry in entries.items() if (old := get(name)) is not entry and not same(old, entry)}
