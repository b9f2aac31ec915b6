"""A page as a tree: the calls of models that it takes, by which caller, and where each stands in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

MAX_CALLS = 1_000
"""Of one page, with those of its parts."""

MAX_DEPTH = 32
"""Callers in a row."""

Page = Sequence[Sequence[str]]
"""Stages, one after the other; the parts of a stage in parallel. A part is a use case, or a caller for its page."""


class PageCall(NamedTuple):
    """One call of a model.

    Attributes:
        caller: that makes it.
        use_case: that it asks for.
        place: stage and position in the page, and before them those of each page on the way: ``1.0.0.2``.
    """

    caller: str
    use_case: str
    place: str


def calls_of(pages: Mapping[str, Page], caller: str) -> list[PageCall]:
    """Returns the calls of a caller's page, in the order of their stages.

    Args:
        pages: of all callers by name.
        caller: whose page it is.

    Raises:
        ValueError: a page contains itself, or it takes more than :data:`MAX_CALLS` calls.
    """
    found = []
    for call in _calls(pages, caller, (caller,), ""):
        found.append(call)
        if len(found) > MAX_CALLS:
            raise ValueError(f"the page of {caller} takes more than {MAX_CALLS} calls; make it smaller")
    return found


def callers_in(pages: Mapping[str, Page], caller: str) -> list[str]:
    """Returns the callers that take part in a caller's page, itself first; some may make no calls of models."""
    found = [caller]
    for name in found:
        found += dict.fromkeys(part for stage in pages[name] for part in stage if part in pages and part not in found)
    return found


def including(pages: Mapping[str, Page], caller: str) -> list[str]:
    """Returns the callers in whose pages a caller's page is a part, directly or by another page."""
    found = [caller]
    for part in found:
        found += (name for name, page in pages.items() if name not in found and any(part in stage for stage in page))
    return found[1:]


def _calls(pages: Mapping[str, Page], caller: str, above: tuple[str, ...], before: str) -> Iterator[PageCall]:
    for stage, parts in enumerate(pages[caller]):
        for position, part in enumerate(parts):
            place = f"{before}{stage}.{position}"
            if part not in pages:
                yield PageCall(caller, part, place)
            elif part in above or len(above) == MAX_DEPTH:
                raise ValueError(f"the page of {above[0]} contains itself: {' → '.join((*above, part))}")
            else:
                yield from _calls(pages, part, (*above, part), f"{place}.")
