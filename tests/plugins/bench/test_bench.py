"""Every bench, also a plugin's, gets a control, doubts on a busy machine, and a warning of too few rounds."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, cast

import pytest

from lab.measure.compare import exactly, median
from lab.measure.control import control
from lab.plugins.bench.harness import bench
from lab.plugins.bench.harness.bench import BENCHES, ROUNDS, Bench, measure
from lab.plugins.bench.harness.environment import Environment
from lab.plugins.bench.harness.metronome import LATE_MS, Beats, metronome, p99_of
from lab.plugins.bench.harness.result import BenchResult, Claim, State
from lab.plugins.bench.harness.topology_rounds import STATIC, measured_topologies


class Anywhere(Environment):
    """An environment without a lab."""

    def recorded(self, measure: Callable[[], BenchResult], rounds: int) -> BenchResult:
        del rounds
        return measure()


def plain_bench(values: Callable[[int], Sequence[float]], **own: Any) -> Bench:
    """A bench as a plugin may have it: samples, and a claim about them and one about a count."""

    def run(_environment: Environment, rounds: int) -> BenchResult:
        samples = values(rounds)
        claims = [
            Claim("fast", median(samples), at_most=10.0),
            Claim("nobody was hit", exactly(0, rounds=rounds), at_most=0),
        ]
        return BenchResult(unit="ms", samples={"a": samples}, claims=claims, notes=[], **own)

    return Bench(name="plain", question="?", run=run)


def steady(rounds: int) -> Sequence[float]:
    draw = Random(1)  # noqa: S311 (no secret)
    return [draw.gauss(5, 0.1) for _ in range(rounds)]


def by_turns(rounds: int) -> Sequence[float]:
    return [each + number % 2 for number, each in enumerate(steady(rounds))]


def measured(bench: Bench, rounds: int = ROUNDS) -> BenchResult:
    return measure(bench, Anywhere(cast("Any", None), lambda _: None), rounds)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("values", "rounds", "agrees", "states"),
    [
        (steady, ROUNDS, True, [State.HOLDS, State.HOLDS]),
        (by_turns, ROUNDS, False, [State.UNDECIDED, State.HOLDS]),
        (steady, ROUNDS - 1, True, [State.UNDECIDED, State.HOLDS]),  # too few to tell
    ],
)
def test_a_bench_without_a_control_gets_one(
    values: Callable[[int], Sequence[float]], rounds: int, *, agrees: bool, states: list[State]
) -> None:
    result = measured(plain_bench(values), rounds)

    assert [agrees] == [each.agrees for each in result.controls]
    assert states == [claim.state for claim in result.claims]


@pytest.mark.usefixtures("quiet")
def test_a_control_of_its_own_is_enough() -> None:
    own = control("own", [1.0] * 7, [1.0] * 7)

    assert measured(plain_bench(by_turns, controls=[own])).controls == [own]


def test_a_busy_machine_puts_timings_in_doubt_and_no_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "metronome", metronome_that_is_late(12.3))

    fast, counted = measured(plain_bench(steady)).claims

    assert fast.doubts == ("this machine was busy: a metronome beside the bench was 12.3 ms late (p99)",)
    assert (counted.doubts, counted.state) == ((), State.HOLDS)


def test_a_metronome_counts_how_late_it_is() -> None:
    with metronome() as beats:
        assert beats.doubt == ""
    assert beats.late_p99_ms >= 0
    assert p99_of([0.001] * 99 + [0.5]) == 500.0
    assert p99_of([0.001] * 199 + [0.5]) == 1.0
    assert p99_of([]) == 0.0


def test_too_few_rounds_are_named_with_the_number_that_tells() -> None:
    for each in BENCHES.values():
        needed = next(rounds for rounds in range(100) if not each.too_few(rounds)) or each.samples
        assert not each.samples or needed == each.samples
        assert each.samples or f"--rounds {needed} " in each.too_few(needed - 1)
    too_few = "3 rounds are too few to tell a difference from chance: take --rounds 14 or more"
    assert too_few == BENCHES["blast-radius"].too_few(3)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is, the metronome is on time."""
    monkeypatch.setattr(bench, "metronome", metronome_that_is_late(LATE_MS))


def metronome_that_is_late(ms: float) -> Callable[[], Any]:
    @contextmanager
    def late() -> Iterator[Beats]:
        beats = Beats()
        yield beats
        beats.late_p99_ms = ms

    return late


def test_the_static_envoy_may_be_named_and_is_measured_anyway() -> None:
    (option,) = BENCHES["topologies"].options
    environment = Anywhere(cast("Any", None), lambda _: None, cache={"topologies: 3, ['mesh']": "measured before"})

    named = option.parse(f"mesh,{STATIC}")

    assert named == ["mesh", STATIC]
    assert cast("Any", measured_topologies(environment, 3, named)) == "measured before"
