"""What every kind of fault says of itself holds, and the page about them is fresh."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from lab.errors import InputError
from lab.faults import FAULTS
from lab.faults.catalogue import document_of
from lab.faults.fault_kind import some
from lab.faults.settings import LEVELS, Number, resolve

NAMES = list(FAULTS)


@pytest.mark.parametrize("name", NAMES)
def test_each_has_the_three_levels_each_within_its_bounds_and_different_from_the_others(name: str) -> None:
    kind = FAULTS[name]

    resolved = [resolve(kind.settings, kind.levels, level=level, given={}) for level in LEVELS]

    assert tuple(kind.levels) == LEVELS
    assert kind.default_level in LEVELS
    assert all(earlier != later for earlier, later in pairwise(resolved))


@pytest.mark.parametrize("name", NAMES)
def test_each_says_what_it_does_where_and_at_what(name: str) -> None:
    document = document_of(FAULTS[name])

    assert all(document[field] for field in ("what", "targets", "runtimes", "settings"))
    assert set(document["runtimes"]) <= {"process", "compose", "kubernetes"}


def test_each_that_does_not_consist_of_unit_operations_says_what_happened_to_its_target() -> None:
    of_unit_operations = {"kill", "pause", "partition", "control-plane-loss", "node-loss"}

    assert {kind.name for kind in FAULTS.values() if not kind.past} == of_unit_operations


@pytest.mark.parametrize(
    ("name", "level", "given", "message"),
    [
        ("slow", "grave", {}, r"^level: 'grave' is not known; use light, medium, severe$"),
        ("slow", "light", {"speed": 1}, r"^speed: is not a setting of this fault; there are ms, sigma, share$"),
        ("slow", "light", {"ms": "fast"}, r"^ms: 'fast' is out of range; use 1 to 60000: milliseconds"),
        ("error", "light", {"rate": 2}, r"^rate: 2 is out of range; use 0.001 to 1: share of requests that fail"),
        ("error", "light", {"rate": "nan"}, r"^rate: 'nan' is out of range"),
        ("control-plane-loss", "light", {"how": "burn"}, r"^how: 'burn' is not known; use pause or kill"),
    ],
)
def test_what_cannot_be_set_is_said_with_the_remedy(
    name: str, level: str, given: dict[str, object], message: str
) -> None:
    kind = FAULTS[name]

    with pytest.raises(InputError, match=message):
        resolve(kind.settings, kind.levels, level=level, given=given)


def test_numbers_given_count_for_more_than_the_levels() -> None:
    slow = FAULTS["slow"]

    assert resolve(slow.settings, slow.levels, level="light", given={"ms": "7"})["ms"] == 7
    assert resolve(slow.settings, slow.levels, level="light", given={})["share"] == 1


@pytest.mark.parametrize(("share", "count"), [(0, 1), (0.25, 1), (0.5, 2), (0.6, 3), (1, 4)])
def test_a_share_of_units_is_one_at_least_and_the_same_for_the_same_seed(share: float, count: int) -> None:
    names = ["a", "b", "c", "d"]

    def chosen_by(seed: int, share: float) -> tuple[str, ...]:
        return some(names, share, Random(seed))  # noqa: S311 (no secret)

    chosen = chosen_by(5, share)

    assert len(chosen) == count
    assert list(chosen) == sorted(chosen)
    assert chosen_by(5, share) == chosen
    assert {name for seed in range(30) for name in chosen_by(seed, 0)} == set(names)


def test_bounds_have_their_defaults_within() -> None:
    for kind in FAULTS.values():
        for setting in kind.settings:
            if isinstance(setting, Number):
                assert setting.least <= setting.default <= setting.most, (kind.name, setting.name)
