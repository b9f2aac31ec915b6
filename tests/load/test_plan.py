from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from lab.client import DirectTarget, Endpoints
from lab.errors import InputError, RunError
from lab.load.arrivals import Constant, Poisson, Trace
from lab.load.plan import EdgeCase, UseCase, read_plan, write_plan
from tests.load.builders import load_plan


@pytest.mark.parametrize("arrivals", [Constant(5, 1), Poisson(5, 1, 3), Trace("/t.csv", 10, 7), Trace("/t.csv")])
def test_the_json_form_gives_back_the_same_plan(tmp_path: Path, arrivals: Any) -> None:
    plan = load_plan(
        tmp_path,
        arrivals=arrivals,
        use_cases=(UseCase("A", "ranking.v1"), UseCase("B", "fraud.v1")),
        endpoints=Endpoints(
            {
                "resolver": ("127.0.0.1:1",),
                "sidecar": ("127.0.0.1:2",),
                "gateway": ("127.0.0.1:3", "127.0.0.1:4"),
            },
            direct={"A": DirectTarget("m", "v1", ("127.0.0.1:5", "127.0.0.1:6"))},
        ),
        traffic_origin="real",
        drivers=2,
        streams=10,
        edge_every=7,
        edge_cases=(EdgeCase("B", {"user_id": "Ü", "country": " US"}),),
    )

    write_plan(plan, tmp_path / "plan.json")

    assert read_plan(tmp_path / "plan.json") == plan


def test_names_without_a_folder_mean_files_beside_the_plan_wherever_that_is_carried(tmp_path: Path) -> None:
    plan = replace(load_plan(tmp_path, arrivals=Trace("trace.csv")), spool=Path("spool"), summary=Path("summary"))
    write_plan(plan, tmp_path / "plan.json")
    carried = tmp_path / "elsewhere"
    carried.mkdir()
    (tmp_path / "plan.json").rename(carried / "plan.json")

    read = read_plan(carried / "plan.json")

    assert (read.spool, read.summary) == (carried / "spool", carried / "summary")
    assert read.arrivals == Trace(str(carried / "trace.csv"))


def test_a_plan_from_before_there_were_tears_drivers_and_streams_has_none_one_and_none(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_plan(load_plan(tmp_path), path)
    document = orjson.loads(path.read_bytes())
    newer = ("tear_every", "drivers", "streams", "edge_every", "edge_cases")
    path.write_bytes(orjson.dumps({k: v for k, v in document.items() if k not in newer}))

    read = read_plan(path)

    assert (read.tear_every, read.drivers, read.streams) == (0, 1, 0)


def test_streams_follow_from_the_seed_and_the_sequence_number(tmp_path: Path) -> None:
    ranking, fraud = UseCase("A", "ranking.v1"), UseCase("B", "fraud.v1")
    plan, other = (load_plan(tmp_path, streams=10, seed=seed) for seed in (1, 2))
    chosen = [sequence for sequence in range(10_000) if plan.is_stream(sequence, ranking)]
    # Written down once: another implementation must choose the same.
    assert chosen[:5] == [4, 15, 19, 25, 59]
    assert 850 <= len(chosen) <= 1_150  # 5 sigma
    assert chosen != [sequence for sequence in range(10_000) if other.is_stream(sequence, ranking)]
    assert not any(plan.is_stream(sequence, fraud) for sequence in range(1_000))
    assert all(replace(plan, streams=100).is_stream(sequence, ranking) for sequence in range(1_000))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"use_cases": ()}, "use_cases"),
        ({"use_cases": (UseCase("A", "ranking.v9"),)}, "A: no API 'ranking.v9'; known: ranking.v1"),
        ({"contexts": {"colour": ("red",)}}, "no field 'colour'"),
        ({"contexts": {"device": ()}}, "device has no choices"),
        ({"payload_bytes": -1}, "payload_bytes: -1"),
        ({"payload_bytes": 2**40}, "payload_bytes"),
        ({"users": 0}, "users: 0"),
        ({"timeout_s": 0.0}, "timeout_s"),
        ({"traffic_origin": "fake"}, "'real' or 'artificial'"),
        ({"contexts": {"traffic_origin": ("real", "fake")}}, "traffic_origin: 'fake' is not known; write 'real'"),
        ({"drivers": 0}, "drivers: 0 is out of range: use 1 to 64"),
        ({"drivers": 65}, "drivers: 65"),
    ],
)
def test_values_that_will_not_do_are_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        load_plan(tmp_path, **changes)

    assert says in str(caught.value)


def spoiled(document: dict[str, Any], **changes: Any) -> bytes:
    return orjson.dumps({**document, **changes})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda _: b"", "no JSON"),
        (lambda _: b"[1]", "is not a load plan"),
        (lambda d: orjson.dumps({k: v for k, v in d.items() if k != "seed"}), "seed is missing"),
        (lambda d: spoiled(d, use_cases=[{"name": "A"}]), "is not a load plan"),
        (lambda d: spoiled(d, users="many"), "users: 'many' is out of range: use 1 to 1,000,000,000, a whole number"),
        (lambda d: spoiled(d, users=True), "users: True"),
        (lambda d: spoiled(d, seed=0.5), "seed: 0.5"),
        (lambda _: b"[" * 100_000, "is nested more than 64 deep"),
        (lambda _: b'{"users": ' + b"9" * 5_000 + b"}", "has more than 64 bits"),
        (lambda _: b'{"users": "\xff"}', "plan.json:1: no JSON (byte 0xff is not UTF-8)"),
        (lambda d: spoiled(d, users=0), "users: 0"),
        (lambda d: spoiled(d, arrivals={"kind": "bursts"}), "'bursts' is not known"),
    ],
)
def test_a_bad_plan_is_one_line_with_file_and_field(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], bytes], says: str
) -> None:
    path = tmp_path / "plan.json"
    write_plan(load_plan(tmp_path), path)
    path.write_bytes(spoil(orjson.loads(path.read_bytes())))

    with pytest.raises(RunError) as caught:
        read_plan(path)

    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_plan_is_a_run_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        read_plan(tmp_path / "plan.json")


def test_edge_cases_are_taken_in_turn(tmp_path: Path) -> None:
    use_case = load_plan(tmp_path).use_cases[0].name
    cases = tuple(EdgeCase(use_case, {"user_id": user}) for user in ("U1", " u1", "u1 "))
    plan = load_plan(tmp_path, edge_every=5, edge_cases=cases)
    taken = [(sequence, case.context["user_id"]) for sequence in range(25) if (case := plan.edge_case(sequence))]
    assert taken == [(4, "U1"), (9, " u1"), (14, "u1 "), (19, "U1"), (24, " u1")]
