import json
import statistics
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import InputError
from lab.load.arrivals import (
    ARRIVALS,
    Arrival,
    ArrivalOptions,
    ArrivalPlan,
    Constant,
    Poisson,
    Trace,
    arrivals_from_document,
    arrivals_to_document,
    parse_arrivals,
    schedule,
)

rates = st.floats(0.5, 5_000)
durations = st.floats(0.01, 3)


@pytest.fixture(name="trace")
def fixture_trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens\n2023-11-16 18:17:03.5,10\n2023-11-16 18:17:04.5,20\n2023-11-16 18:17:13.5,30\n"
    )
    return path


def test_constant_is_evenly_spaced_and_starts_at_once() -> None:
    assert [one.offset_ns for one in Constant(4, 1).arrivals()] == [0, 250_000_000, 500_000_000, 750_000_000]


@settings(deadline=None)
@given(rate=rates, duration=durations)
def test_constant_has_as_many_as_the_rate_says(rate: float, duration: float) -> None:
    arrivals = list(Constant(rate, duration).arrivals())

    assert abs(rate * duration - len(arrivals)) <= 0.5
    assert all(one.offset_ns <= duration * 1e9 for one in arrivals)


@settings(deadline=None)
@given(rate=rates, duration=durations, seed=st.integers(0, 2**32))
def test_poisson_is_the_same_each_time_and_in_order(rate: float, duration: float, seed: int) -> None:
    plan = Poisson(rate, duration, seed)
    arrivals = list(plan.arrivals())

    assert arrivals == list(plan.arrivals())
    assert all(one.offset_ns <= other.offset_ns for one, other in pairwise(arrivals))
    assert all(0 <= one.offset_ns <= duration * 1e9 for one in arrivals)


def test_poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() -> None:
    offsets = [one.offset_ns / 1e9 for one in Poisson(1_000, 20, seed=1).arrivals()]
    gaps = [later - earlier for earlier, later in pairwise(offsets)]

    # n = 20,000: sigma of the mean is 0.7 %, of the deviation about 1 %; 5 % is five sigma and more.
    assert statistics.mean(gaps) == pytest.approx(0.001, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(0.001, rel=0.05)


def test_other_seeds_give_other_arrivals() -> None:
    assert list(Poisson(100, 1, seed=1).arrivals()) != list(Poisson(100, 1, seed=2).arrivals())


def test_a_trace_starts_at_once_and_is_shrunk_by_the_speedup(trace: Path) -> None:
    assert list(Trace(str(trace), speedup=10).arrivals()) == [
        Arrival(0, 40),
        Arrival(100_000_000, 80),
        Arrival(1_000_000_000, 120),
    ]
    assert len(list(Trace(str(trace), limit=2).arrivals())) == 2


def test_a_schedule_states_its_offered_rate(trace: Path) -> None:
    even, real = schedule(Constant(10, 2), 400), schedule(Trace(str(trace)), 400)

    assert (len(even), even.offered_rps, set(even.payload_bytes)) == (20, 10.0, {400})
    assert (len(real), real.offered_rps, list(real.payload_bytes)) == (3, 0.3, [40, 80, 120])


def test_a_trace_of_one_request_offers_no_rate(trace: Path) -> None:
    assert schedule(Trace(str(trace), limit=1), 400).offered_rps == 0.0


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("constant", Constant(50, 3)),
        ("poisson", Poisson(50, 3, 7)),
        ("trace:a:b.csv", Trace("a:b.csv", 10, 99)),
    ],
)
def test_the_command_lines_words_name_the_kinds(text: str, plan: ArrivalPlan) -> None:
    options = ArrivalOptions(rate=50, duration_s=3, seed=7, speedup=10, limit=99)

    assert parse_arrivals(text, options) == plan
    assert arrivals_from_document(json.loads(json.dumps(arrivals_to_document(plan)))) == plan


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("trace", ArrivalOptions(), "trace:FILE"),
        ("trace:x", ArrivalOptions(speedup=0), "speedup"),
        ("trace:x", ArrivalOptions(limit=0), "limit"),
        ("poisson:5", ArrivalOptions(), "takes no argument"),
        ("poisson", ArrivalOptions(rate=-1), "rate: -1"),
        ("constant", ArrivalOptions(rate=float("nan")), "rate: nan"),
        ("constant", ArrivalOptions(duration_s=0), "duration: 0"),
        ("constant", ArrivalOptions(rate=1e6, duration_s=60), "more than"),
        ("constant", ArrivalOptions(rate=1e9), "rate: 1000000000.0 is out of range: use 0.01 to 1,000,000"),
        ("constant", ArrivalOptions(duration_s=float("inf")), "duration: inf"),
        ("poisson", ArrivalOptions(seed=10**30), "seed: 1000000000"),
        ("trace:x", ArrivalOptions(limit=10**23), "limit: 1000000000"),
        ("bursts", ArrivalOptions(), "write one of poisson, constant, trace:FILE"),
    ],
)
def test_words_that_will_not_do_are_refused_with_a_remedy(text: str, options: ArrivalOptions, says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_arrivals(text, options)

    assert says in str(caught.value)


@pytest.mark.parametrize("document", [{}, {"kind": "bursts"}, {"kind": "constant", "speed": 1}, {"kind": "poisson"}])
def test_documents_that_will_not_do_are_refused(document: dict[str, object]) -> None:
    with pytest.raises(InputError):
        arrivals_from_document(document)


def test_a_run_without_a_request_is_refused() -> None:
    with pytest.raises(InputError, match="no request falls into the run"):
        schedule(Constant(0.1, 1), 400)


def test_the_catalogue_names_each_kind_as_it_names_itself() -> None:
    assert ["poisson", "constant", "trace"] == [kind.kind for kind in ARRIVALS.values()] == list(ARRIVALS)
