"""Ten thousand wrong inputs a run, and all that have ever been found; `make fuzz-inputs` is for a million and more."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutants import mutant
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_every_mutant_is_read_or_refused(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=target.cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=True))
    def takes(random: Random) -> None:
        target.take(mutant(random, target.seeds))

    for seed in target.seeds:
        target.take(seed)
    takes()


def test_there_are_ten_thousand_of_them() -> None:
    assert sum(target.cases for target in TARGETS.values()) >= 10_000


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_earlier_find_is_read_or_refused(path: Path) -> None:
    TARGETS[path.parent.name].take(path.read_bytes())
