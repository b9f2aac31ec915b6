"""Pauses the cycle collector while many objects are made that all stay alive, and leaves them out of it afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_MANY = 20_000
"""Objects, as of a table of a thousand use cases; a full collection takes about a millisecond for each thousand."""


class _Frozen:
    """Whether more may have been made of objects that were frozen since :func:`freeze_what_follows` was called."""

    more = False


@contextmanager
def gc_disabled(*, stays: bool = False) -> Iterator[None]:
    """Disables GC during bulk allocation: its repeated passes would take seconds and free nothing.

    Args:
        stays: whether what is made stays for long, and without cycles. If it is much, later collections leave it out:
            a full one beside ten thousand use cases would stop the process for 0.2 s. References free it as before.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
            if stays and gc.get_count()[0] > _MANY:
                _freeze()
                _Frozen.more = True


def freeze_what_follows() -> None:
    """Leaves out of later collections what was made of a large table, once it is in force; nothing without one.

    Later ones become rare: a table that replaces it shares its entries, but lists all of them, and the collector reads
    such lists again and again while few objects are made.
    """
    if _Frozen.more:
        _Frozen.more = False
        _freeze()
        gc.set_threshold(_MANY, *gc.get_threshold()[1:])


def _freeze() -> None:
    gc.collect(1)  # what is frozen in a cycle is never freed
    gc.freeze()
