from collections import Counter
from pathlib import Path

import pytest

from lab.load import mix
from lab.load.mix import Mix, Payloads
from lab.load.plan import UseCase
from models.apis import APIS
from models.context import FIELDS, OVERRIDE
from tests.load.builders import load_plan

USE_CASES = (UseCase("ContinueWatchingRanking", "ranking.v1"), UseCase("FraudDetection", "fraud.v1"))


def test_the_same_plan_asks_the_same_and_another_seed_another(tmp_path: Path) -> None:
    one, same, other = (Mix(load_plan(tmp_path, seed=seed, use_cases=USE_CASES)) for seed in (1, 1, 2))

    drawn = [one.draw() for _ in range(50)]

    assert drawn == [same.draw() for _ in range(50)]
    assert drawn != [other.draw() for _ in range(50)]


def test_every_choice_is_drawn_evenly_and_every_field_is_there(tmp_path: Path) -> None:
    drawing = Mix(
        load_plan(tmp_path, users=4, use_cases=USE_CASES, contexts={"device": ("tv", "phone"), "country": ("US",)})
    )
    drawn = [drawing.draw() for _ in range(4_000)]

    # n = 4,000: a share of 1/2 has a sigma of 0.8 %, one of 1/4 of 0.7 %; 5 % is six sigma.
    for counts, share in (
        (Counter(ask.use_case for ask in drawn), 1 / 2),
        (Counter(ask.context["device"] for ask in drawn), 1 / 2),
        (Counter(ask.context["user_id"] for ask in drawn), 1 / 4),
    ):
        assert round(1 / share) == len(counts)
        assert all(pytest.approx(share, abs=0.05) == count / 4_000 for count in counts.values())
    assert {frozenset(ask.context) for ask in drawn} == {frozenset(FIELDS) - {OVERRIDE}}
    assert {
        tuple(ask.context[name] for name in ("country", "segment", "caller", "traffic_origin")) for ask in drawn
    } == {("US", "", "homepage", "artificial")}


def test_requests_are_pinned_only_if_the_plan_says_so(tmp_path: Path) -> None:
    free, pinned, some = (
        Mix(load_plan(tmp_path, use_cases=USE_CASES, contexts=contexts))
        for contexts in ({}, {"override": ("rows@v2",)}, {"override": ("", "rows@v2")})
    )

    assert [mix.draw().context.get("override") for mix in (free, pinned)] == [None, "rows@v2"]
    assert {some.draw().context["override"] for _ in range(50)} == {"", "rows@v2"}


def test_a_choice_that_stands_there_often_is_drawn_as_often(tmp_path: Path) -> None:
    drawing = Mix(load_plan(tmp_path, use_cases=USE_CASES, contexts={"tenant": ("ads",) * 9 + ("kids",)}))
    counts = Counter(drawing.draw().context["tenant"] for _ in range(4_000))

    # n = 4,000: a share of 1/10 has a sigma of 0.5 %; 3 % is six sigma.
    assert set(counts) == {"ads", "kids"}
    assert counts["kids"] / 4_000 == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(
    ("contexts", "origins"),
    [
        ({}, {"artificial"}),
        ({"traffic_origin": ("real",)}, {"real"}),
        ({"traffic_origin": ("real", "artificial")}, {"real", "artificial"}),
    ],
)
def test_the_origin_is_artificial_unless_the_contexts_say_otherwise(
    tmp_path: Path, contexts: dict[str, tuple[str, ...]], origins: set[str]
) -> None:
    drawing = Mix(load_plan(tmp_path, use_cases=USE_CASES, contexts=contexts))

    assert {drawing.draw().context["traffic_origin"] for _ in range(50)} == origins


@pytest.mark.parametrize("api", list(APIS))
@pytest.mark.parametrize("payload_bytes", [0, 400, 27_000])
def test_a_payload_is_built_once_and_knows_its_size(api: str, payload_bytes: int) -> None:
    payloads = Payloads()

    payload = payloads.get(api, payload_bytes)

    assert APIS[api].build_request(payload_bytes).SerializeToString() == payload.message.SerializeToString()
    assert len(payload.message.SerializeToString()) == payload.size
    assert payload is payloads.get(api, payload_bytes)


def test_payloads_take_no_more_memory_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mix, "CACHE_BYTES", 100_000)
    payloads = Payloads()

    payloads.prepare(["ranking.v1"], range(1_000, 100_000, 1_000))
    for size in range(1_000, 100_000, 1_000):
        payloads.get("ranking.v1", size)

    assert sum(payload.size for payload in payloads._kept.values()) <= 100_000
