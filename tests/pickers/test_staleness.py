"""What a picker sees of a replica whose reading is too old, by each policy, and by the second reader."""

from __future__ import annotations

from typing import get_args

import pytest

from lab.pickers import Seen, Stale, offered
from lab.plugins.pickers.readers import without_stale

NEW, OLD, NONE = (
    Seen("a", 3, 5, 2, 0.5, 99.0),
    Seen("b", 4, 1, 1, 0.7, 100.0, ("l",), (), 2),
    Seen("c", 1, 0, 0, 0.0, -1),
)
ALL = (NEW, OLD, NONE)


def by_both(seen: tuple[Seen, ...], stale: str) -> list[Seen]:
    """What a picker goes by, on which picker and second reader agree."""
    found = [*offered(seen, stale, 100.0)]  # type: ignore[arg-type]
    again = without_stale([each._asdict() for each in seen], {"stale": stale, "stale_ms": 100.0})
    assert [each._asdict() for each in found] == [*again]
    return found


def test_a_stale_reading_is_used_left_out_or_replaced_by_what_is_in_flight() -> None:
    assert by_both(ALL, "use") == [*ALL]
    assert by_both(ALL, "leave-out") == [NEW]
    assert by_both(ALL, "in-flight") == [NEW, Seen("b", 4, 4, 0, 0.0, 100.0), Seen("c", 1, 1, 0, 0.0, -1)]


@pytest.mark.parametrize("stale", get_args(Stale))
def test_new_readings_are_used_as_they_are(stale: str) -> None:
    assert by_both((NEW, NEW), stale) == [NEW, NEW]


def test_no_replica_is_left_out_if_all_are_stale() -> None:
    assert by_both((OLD, NONE), "leave-out") == [OLD, NONE]
