import asyncio
import itertools
from time import monotonic_ns

import pytest

from lab.errors import UnitError
from lab.plugins.bench.harness.environment import Environment
from lab.plugins.bench.harness.scale_out import AFTER_S, BEFORE_S, SETTLED_S, Answered, Round, share_between
from lab.plugins.bench.harness.senders import send_at_fixed_rate
from lab.plugins.bench.suites import balancing
from lab.plugins.bench.suites.balancing import L4_AGED, L4_CUT, L4_KEPT, L7_VIP, result

OLD, NEW = ("a", "b"), "c"


def a_round(before: str, after: str, *, failed: int = 0) -> Round:
    """What came back when the replicas named answered, in turn, before one was added and once things had settled."""
    answers = [Answered(-1.5 + 0.01 * place, replica) for place, replica in enumerate(before)]
    answers += [Answered(SETTLED_S + 0.01 * place, replica) for place, replica in enumerate(after)]
    return Round([*answers, *[Answered(0.5, "")] * failed], -1.5, OLD, NEW)


EVEN = a_round("abab", "abcabc")
STUCK = a_round("aaab", "aaabab")
RENEWED = a_round("aaab", "aaabbc")
GOOD = {
    "direct": a_round("abab", "ababab"),
    "mesh": EVEN,
    L4_KEPT: STUCK,
    L4_CUT: a_round("aaab", "aaabbc", failed=2),
    L7_VIP: EVEN,
    L4_AGED: RENEWED,
}


def broken(**change: Round) -> list[str]:
    seen = {path: [each] * 3 for path, each in {**GOOD, **change}.items()}
    return [claim.text for claim in result(seen).claims if not claim.holds]


def test_spread_and_share_count_who_answered_when() -> None:
    taken = a_round("aaab", "aabbbc", failed=1)

    assert (taken.spread_before, taken.spread_after, taken.share) == (1.5, 1.5, 0.5)
    assert taken.failed == 1 / 11
    assert taken.first_s == SETTLED_S + 0.05
    assert STUCK.first_s == float("inf")


def test_requests_outside_the_time_that_counts_do_not() -> None:
    taken = Round(
        [
            Answered(-2.0, "a"),
            Answered(-1.5, "a"),
            Answered(-1.4, "b"),
            Answered(BEFORE_S - 1.5, "a"),
            Answered(SETTLED_S - 0.01, "a"),
            Answered(SETTLED_S, "c"),
            Answered(AFTER_S, "a"),
        ],
        began_s=-1.5,
        old=OLD,
        new=NEW,
    )
    assert (taken.spread_before, taken.share) == (1.0, 3.0)


def test_a_round_without_answers_is_no_even_spread() -> None:
    with pytest.raises(UnitError, match="nothing was measured"):
        _ = a_round("", "abc").spread_before
    with pytest.raises(UnitError, match="nothing was measured"):
        _ = a_round("ab", "").share


def test_the_share_over_time_is_of_all_rounds_together() -> None:
    rounds = [a_round("ab", "ac"), a_round("ab", "cc")]
    assert share_between(rounds, SETTLED_S, AFTER_S) == 0.75
    assert share_between(rounds, -1.5, 0) == share_between(rounds, 0, SETTLED_S) == 0


def test_good_balancing_keeps_all_bounds_and_vips_come_first() -> None:
    assert broken() == []
    [table] = result({path: [each] * 3 for path, each in GOOD.items()}).tables
    assert [row[0] for row in table.rows] == [L4_KEPT, L4_CUT, L4_AGED, L7_VIP, "direct", "mesh"]


@pytest.mark.parametrize(
    ("path", "taken", "claim"),
    [
        ("mesh", a_round("aaab", "abcabc"), "most uneven path (mesh)"),
        ("mesh", a_round("abab", "ababab"), "slowest path (mesh)"),
        ("direct", a_round("aaab", "ababab"), "most uneven path (direct)"),
        (L7_VIP, a_round("abab", "aabbab"), "slowest path (L7)"),
        (L4_KEPT, a_round("abab", "aaabab"), "L4 / L7"),
        (L4_KEPT, a_round("aaab", "aaabac"), "none as long as connections last"),
        (L4_CUT, STUCK, f"{L4_CUT} after"),
        (L4_AGED, STUCK, f"{L4_AGED} after"),
        (L4_AGED, a_round("aaab", "aaabbc", failed=1), f"worst round, {L4_AGED}"),
    ],
)
def test_each_claim_can_fail(path: str, taken: Round, claim: str) -> None:
    [text] = broken(**{path: taken})
    assert claim in text


async def test_requests_are_sent_at_a_fixed_rate_while_none_is_answered() -> None:
    due: list[int] = []
    never, stop = asyncio.Event(), asyncio.Event()

    async def send(due_ns: int) -> None:
        assert monotonic_ns() >= due_ns - 1_000_000
        due.append(due_ns)
        if len(due) == 5:
            stop.set()
            never.set()
        await never.wait()

    await send_at_fixed_rate(send, every_ms=2, numbers=itertools.count(), stop=stop)

    assert [later - earlier for earlier, later in itertools.pairwise(due)] == [2_000_000] * (len(due) - 1)
    assert {each % 1_000_000 for each in due} == {0}


@pytest.mark.timeout(120)
def test_the_bench_shows_who_gets_to_a_new_replica(environment: Environment) -> None:
    found = balancing.run(environment, 2)

    topologies = set(environment.topologies) - {"mesh-unleased", "gateway-passthrough"}  # behind the same balancers

    share = {name.removesuffix(", new replica"): value for name, value in found.medians().items() if "new" in name}
    assert share.keys() == topologies | {L4_KEPT, L4_CUT, L4_AGED, L7_VIP}
    assert share[L4_KEPT] == share["direct"] == 0
    assert all(share[path] > 0 for path in share if path not in (L4_KEPT, "direct"))
