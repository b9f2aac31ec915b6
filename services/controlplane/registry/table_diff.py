"""Diffs between the documents of two route tables, entry by entry: pure.

A diff has the shape of a document: section → name → entry, or None for a removed entry. Entries that two tables share
(``is``) are not compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.routing.difference import Difference, changed_entries, same

Document = dict[str, dict[str, Any]]


def diff(
    before: Mapping[str, Mapping[str, Any]],
    after: Mapping[str, Mapping[str, Any]],
    within: Difference | None = None,
) -> Document:
    """The diff that turns ``before`` into ``after``; unchanged sections are left out.

    Args:
        before: a document.
        after: another one.
        within: the only entries that may differ, if that is known: no others are looked at.
    """
    change: Document = {}
    for section in before.keys() | after.keys():
        old, new = before.get(section, {}), after.get(section, {})
        names = getattr(within, section, None)
        if names is not None:
            entries = {name: new.get(name) for name in names if not same(old.get(name), new.get(name))}
        else:
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
