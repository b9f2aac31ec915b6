"""The routers carry conversations, each request judged."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import pytest

from lab import CHECKOUT
from lab.checkers import Claim, Outcome
from lab.history import Record
from lab.lab import Lab
from lab.load.engines import ENGINES
from lab.plugins.foreign_pickers.routers import NEUTRAL, ROUTERS
from lab.runs import LoadOptions, RunResult
from lab.runs.folder import RunFolder
from lab.spec import SIZES
from tests.labs import lab_up

TOPOLOGIES = tuple(f"{name}{suffix}" for name in ROUTERS for suffix in ("", NEUTRAL))


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """The routers, in environments of their own."""
    subprocess.run(["make", ".venv/with-foreign-pickers"], check=True, cwd=CHECKOUT)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab of token models behind every router, with mTLS."""
    folder = tmp_path_factory.mktemp("routers")
    with lab_up(folder, spec=SIZES["tokens"], topologies=TOPOLOGIES, picker="cache-aware", security="mtls") as lab:
        yield lab


def driven(lab: Lab, topology: str) -> RunResult:
    options = LoadOptions(
        topology=topology,
        caller="homepage",
        use_cases=("Chat",),
        contexts={"tenant": ("ads", "kids")},
        rate=20,
        duration_s=3,
        users=13,
        streams=50,
        engine=ENGINES["chat"].plan(turns=20),
    )
    return lab.load(options)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_conversations_through_a_router_are_right_and_find_their_prompts(lab: Lab, topology: str) -> None:
    run = driven(lab, topology)

    assert run.claims[Claim.CORRECTNESS] is Outcome.VALID, run.verdicts
    valid = {each.checker for each in run.verdicts if each.outcome is Outcome.VALID}
    assert {"delivery", "headers", "identity", "origin", "path", "picks", "routing", "streams"} <= valid
    # A conversation goes on where it is known. At random that is 0.25 of about 47 pairs, with a sigma of 0.063.
    by_user: defaultdict[str, list[Record]] = defaultdict(list)
    for each in sorted(RunFolder(run.folder).history, key=lambda record: record.sequence):
        by_user[each.user_id].append(each)
    pairs = [pair for records in by_user.values() for pair in pairwise(records)]
    assert sum(one.replica == other.replica for one, other in pairs) > 0.54 * len(pairs) > 15
