"""Who owns the entries of a route table, and whether a change keeps to one owner's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from lab.errors import NotOwnedError
from lab.routing.difference import Table, difference, same

SECTIONS = ("use_cases", "models", "clusters")
"""Sections whose entries may have an ``owner``."""
_SHOWN = 10


class Change(NamedTuple):
    """An entry that differs between two tables.

    Attributes:
        entry: e.g. ``use_cases.UpNext``, or a section whose entries have no owners.
        fields: that differ, of entries that are in both tables.
        before: owner; empty for nobody, None if the entry was not there.
        after: likewise.
    """

    entry: str
    fields: tuple[str, ...] = ()
    before: str | None = ""
    after: str | None = ""

    @property
    def owner(self) -> str:
        """Who owns it now, or did before it was removed; empty if nobody does."""
        return self.after or self.before or ""


def changes(before: Table, after: Table) -> Iterator[Change]:
    """Yields what differs, by section and name; at the cost of what differs, as :func:`difference` is."""
    found = difference(before, after)
    for section in SECTIONS:
        old, new = before.document.get(section, {}), after.document.get(section, {})
        for name in sorted(getattr(found, section)):
            one, other = old.get(name, {}), new.get(name, {})
            if fields := tuple(sorted(each for each in {*one, *other} if not _same_field(one, other, each))):
                owners = (entries[name].get("owner", "") if name in entries else None for entries in (old, new))
                yield Change(f"{section}.{name}", fields if name in old and name in new else (), *owners)
    for section in sorted((before.document.keys() | after.document.keys()) - {*SECTIONS}):
        if not _same_field(before.document, after.document, section):
            yield Change(section)


def require_owned(owner: str, before: Table, after: Table) -> None:
    """Requires that all that differs was owned by one owner, and still is.

    Raises:
        NotOwnedError: names each field of another's or of nobody's, and each entry that changes hands.
    """
    if problems := [each for change in changes(before, after) for each in _problems(owner, change)]:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise NotOwnedError("; ".join((*problems[:_SHOWN], *more)))


def _problems(owner: str, change: Change) -> Iterator[str]:
    entry, _, before, after = change
    if "." not in entry:
        yield f"{entry}: only the operator may change it"
    elif before is None:
        if after != owner:
            yield f"{entry}.owner: a new entry must be your own; write owner: {owner}"
    elif before != owner:
        whose = f"owned by {before}, not by {owner}" if before else "nobody owns it, so only the operator may change it"
        yield from (f"{entry}.{field}: {whose}" for field in change.fields) if change.fields else [f"{entry}: {whose}"]
    elif after not in (None, owner):
        yield f"{entry}.owner: only the operator may give it to {after or 'nobody'}"


def _same_field(one: Mapping[str, Any], other: Mapping[str, Any], field: str) -> bool:
    missing = object()
    return same(one.get(field, missing), other.get(field, missing))
