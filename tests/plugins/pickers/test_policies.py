"""What each picker picks, by prompts, conversations and the replicas' load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from lab.errors import SpecError
from lab.pickers import GATEWAY, PICKERS, Asked, Chooser, Chooses, Seen, Speed
from lab.spec import SIZES, override, read_spec
from models.tokens.blocks import chain

SYSTEM = range(160)


def chooser(name: str) -> Chooser:
    made = PICKERS[name].at(GATEWAY)
    assert isinstance(made, Chooses)
    return made.make()


def asked(prompt: Sequence[int] = SYSTEM, session: str = "", tenant: str = "", number: int = 0) -> Asked:
    return Asked(f"r-{number}", chain(prompt, tenant=tenant, lora=""), len(prompt), session, "", tenant)


def seen(*waiting: int, in_flight: Sequence[int] = (), kv_used: Sequence[float] = ()) -> list[Seen]:
    return [
        Seen(
            f"10.0.0.{place}:1",
            in_flight[place] if in_flight else queue,
            queue,
            0,
            kv_used[place] if kv_used else 0.0,
            10.0,
        )
        for place, queue in enumerate(waiting)
    ]


def test_random_takes_all_and_power_of_two_never_the_busiest() -> None:
    drawn, two = chooser("random"), chooser("power-of-two")

    assert {drawn.pick(asked(), seen(5, 0, 1)) for _ in range(200)} == {0, 1, 2}
    counts = Counter(two.pick(asked(), seen(5, 0, 1)) for _ in range(600))
    assert counts[0] == 0
    assert counts[1] > counts[2] > 0
    assert two.pick(asked(), seen(5)) == 0


def test_queue_depth_takes_the_shortest_queue_by_the_signal_whatever_is_in_flight() -> None:
    assert chooser("queue-depth").pick(asked(), seen(3, 1, 2, in_flight=(0, 9, 0))) == 1
    reserved = [each._replace(tokens=tokens) for each, tokens in zip(seen(1, 1, 1), (50, 20, 30), strict=True)]
    assert chooser("queue-depth").pick(asked(), reserved) == 1


@pytest.mark.parametrize("name", ["prefix", "prefix-affinity", "weighted"])
def test_the_same_beginning_goes_to_the_same_replica_but_not_another_tenants(name: str) -> None:
    picks = chooser(name)
    first = picks.pick(asked(number=1), seen(0, 0, 0))
    others = {picks.pick(asked([*SYSTEM, *range(1_000, 1_016)], number=each), seen(0, 0, 0)) for each in range(2, 30)}

    assert others == {first}
    assert not all(same_place_for_another_tenant(name) for _ in range(60))


def same_place_for_another_tenant(name: str) -> bool:
    """Whether another tenant's request goes where the first one went."""
    picks = chooser(name)
    return picks.pick(asked(), seen(0, 0, 0)) == picks.pick(asked(tenant="ads", number=1), seen(0, 0, 0))


def test_uncached_tokens_spreads_what_is_new_and_counts_what_has_ended_no_more() -> None:
    picks = chooser("uncached-tokens")
    replicas = seen(0, 0)
    first = picks.pick(asked(range(1_000, 3_000), number=1), replicas)

    assert picks.pick(asked(range(5_000, 6_000), number=2), replicas) == 1 - first
    picks.ended(asked(range(1_000, 3_000), number=1), replicas[first].address)
    assert picks.pick(asked(range(7_000, 7_500), number=3), replicas) == first


def test_the_valve_opens_once_the_replica_that_holds_the_prompt_is_too_busy() -> None:
    picks = chooser("prefix-affinity")
    replicas = seen(0, 0)
    first = picks.pick(asked(number=1), replicas)
    places = [
        picks.pick(asked([*SYSTEM, *range(10_000 * each, 10_000 * each + 39)], number=each), replicas)
        for each in range(2, 80)
    ]

    assert places[:20] == [first] * 20
    assert 1 - first in places


def test_a_conversation_stays_and_new_ones_begin_where_the_fewest_are() -> None:
    picks = chooser("session")
    first = {name: picks.pick(asked(session=name), seen(0, 0, 0)) for name in "abcdef"}

    assert Counter(first.values()) == {0: 2, 1: 2, 2: 2}
    assert {name: picks.pick(asked(session=name), seen(9, 9, 9)) for name in "abcdef"} == first
    left = [each for each in seen(0, 0, 0) if each != seen(0, 0, 0)[first["a"]]]
    moved = left[picks.pick(asked(session="a"), left)]
    assert moved == seen(0, 0, 0)[[each.address for each in seen(0, 0, 0)].index(moved.address)]


def test_the_ring_spreads_conversations_and_a_full_replica_passes_them_on() -> None:
    picks = chooser("ring-hash")
    idle = [picks.pick(asked(session=f"s{each}"), seen(0, 0, 0)) for each in range(300)]

    assert idle == [picks.pick(asked(session=f"s{each}"), seen(0, 0, 0)) for each in range(300)]
    assert min(Counter(idle).values()) > 50
    busy = [picks.pick(asked(session=f"s{each}"), seen(4, 0, 0)) for each in range(300)]
    assert set(busy) == {1, 2}
    assert all(now == before for now, before in zip(busy, idle, strict=True) if before)


def test_weights_trade_prefix_for_queue_and_cache() -> None:
    picks = chooser("weighted")
    first = picks.pick(asked(), seen(0, 0))
    waits = (9, 0) if first == 0 else (0, 9)

    assert picks.pick(asked(number=1), seen(*waits)) == first  # 3 for the prefix against 2 for the queue
    full = (1.0, 0.0) if first == 0 else (0.0, 1.0)
    assert picks.pick(asked(number=2), seen(*waits, kv_used=full)) == 1 - first


@pytest.mark.parametrize(
    ("loras", "right"),
    [
        ([(["a", "b"], []), (["x"], []), (["x", "y"], [])], 0),  # it has the adapter
        ([(["y", "b"], []), (["x"], []), (["x", "y"], ["a"])], 1),  # it has room for it
        ([(["y", "b"], []), (["x"], ["b"]), (["x", "y"], ["a"])], 2),  # requests wait for it there
        ([(["y", "b"], []), (["x", "b"], []), (["x", "y"], [])], 1),  # the least load of all
    ],
)
def test_an_adapter_is_asked_for_where_it_is_loaded(loras: list[tuple[list[str], list[str]]], right: int) -> None:
    replicas = [
        each._replace(loras=has, waiting_loras=waits, max_loras=2)
        for each, (has, waits) in zip(seen(3, 1, 2), loras, strict=True)
    ]
    assert chooser("lora").pick(asked()._replace(lora="a"), replicas) == right


# 160 tokens take 20 + 160 · 0.35 = 76 ms on an idle replica, and twice that where it serves two.
IDLE_MS, BOTH_MS = 76.0, 152.0


@pytest.mark.parametrize(
    ("slo", "right"),
    [
        ((200, 0), {1}),  # both slots are taken there, yet it is in time
        ((100, 0), {0, 3}),  # only an idle one is
        ((0, 40), {1, 2}),  # the queue takes nothing from further tokens
        ((200, 20), {0, 3}),  # of both, each has to be met
        ((50, 0), {0, 3}),  # none is: the soonest
        ((0, 0), {0, 3}),  # likewise, as nothing is asked
    ],
)
def test_the_replica_that_meets_the_slo_with_the_least_to_spare_is_taken(
    slo: tuple[float, float], right: set[int]
) -> None:
    speed = Speed(overhead_ms=20, prefill_ms=0.35, itl_ms=15, load_factor=2, slots=2)
    replicas = [each._replace(speed=speed) for each in seen(0, 1, 5, 0)]
    wanted = asked()._replace(slo_first_ms=slo[0], slo_next_ms=slo[1])

    assert {chooser("slo").pick(wanted, replicas) for _ in range(60)} == right


def test_what_the_gateway_has_in_flight_counts_before_the_replica_reports_it() -> None:
    speed = Speed(20, 0.35, 15, 2, 2)
    replicas = [each._replace(speed=speed) for each in seen(0, 0, in_flight=(1, 0))]

    assert chooser("slo").pick(asked()._replace(slo_first_ms=100), replicas) == 1
    assert chooser("slo").pick(asked()._replace(slo_first_ms=BOTH_MS), replicas) == 0
    assert chooser("slo").pick(asked()._replace(slo_first_ms=IDLE_MS), replicas) == 1


def test_a_cached_prompt_meets_what_another_does_not() -> None:
    picks, replicas = chooser("slo"), [each._replace(speed=Speed(20, 0.35, 15, 2, 2)) for each in seen(0, 0)]
    strict = asked()._replace(slo_first_ms=30)
    first = picks.pick(strict, replicas)

    assert {picks.pick(strict, replicas) for _ in range(20)} == {first}


def test_a_picker_that_goes_by_reports_is_refused_where_none_are_read() -> None:
    spec = read_spec(SIZES["tokens"])
    counted = spec.model_copy(update={"signal": spec.signal.model_copy(update={"source": "counted"})})
    with pytest.raises(SpecError, match="--picker: picker slo goes by what replicas report: set source in"):
        override(counted, picker="slo")


def test_prompts_that_are_mostly_new_are_prefilled_apart_and_others_where_they_decode() -> None:
    apart, there = chooser("prefill-decode"), seen(0, 0, 0, 0)
    picks: Any = apart
    there = [each._replace(prefills=place < 2) for place, each in enumerate(there)]
    long, longer = asked(range(272)), asked(range(1, 320), number=1)

    first = apart.pick(long, there)
    prefills = picks.prefiller(long, there, first)
    again = apart.pick(long, there)

    assert first in {2, 3}
    assert prefills in {"10.0.0.0:1", "10.0.0.1:1"}
    assert again == first  # of two that are as busy, the one that was sent the prompt
    assert picks.prefiller(long, there, again) == ""
    assert picks.prefiller(longer, there, apart.pick(longer, there)) == {
        "10.0.0.0:1": "10.0.0.1:1",
        "10.0.0.1:1": "10.0.0.0:1",
    }.get(prefills)
    short = asked(range(2_000, 2_256), number=2)
    assert picks.prefiller(short, there, 2) == ""
    only_one_role = [each._replace(prefills=False) for each in there]
    assert picks.prefiller(asked(range(5_000, 6_000), number=3), only_one_role, 2) == ""


def test_what_only_prefills_decodes_if_nothing_else_is_left_and_nothing_unread_is_picked() -> None:
    there = [each._replace(prefills=True) for each in seen(0, 0)]
    assert chooser("prefill-decode").pick(asked(), there) in {0, 1}
    unread = [there[0], seen(0, 0)[1], seen(0, 0, 0)[2]._replace(age_ms=-1.0)]
    assert {chooser("prefill-decode").pick(asked(), unread) for _ in range(50)} == {1}


@pytest.mark.parametrize(
    ("topologies", "said"),
    [
        (["+mesh"], "topology mesh cannot pick by prefix: its cluster picks"),
        (["+gateway-passthrough"], "topology gateway-passthrough cannot pick by prefix: it does not read the prompt"),
    ],
)
def test_a_topology_that_sees_no_prompts_is_refused(topologies: list[str], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        override(read_spec(SIZES["tokens"]), topologies=topologies, picker="prefix")


@pytest.mark.parametrize("topology", ["mesh", "picker", "picker-body"])
def test_a_topology_in_which_no_request_waits_is_refused(topology: str) -> None:
    says = f"{topology} cannot pick by priority-bands: it lets no request wait before it picks"
    with pytest.raises(SpecError, match=says):
        override(read_spec(SIZES["tokens"]), topologies=[topology], picker="priority-bands")


@pytest.mark.parametrize("topology", ["mesh", "gateway-header", "proxyless", "direct"])
def test_prefill_apart_is_refused_where_nothing_reads_prompts(topology: str) -> None:
    with pytest.raises(SpecError, match=f"topology {topology} cannot pick by prefill-decode: its cluster picks for a"):
        override(read_spec(SIZES["tokens"]), topologies=[topology], picker="prefill-decode")


def test_a_picker_that_follows_kv_events_is_refused_where_none_are_published() -> None:
    with pytest.raises(SpecError, match="--picker: picker prefix-exact follows KV events: set kv_events"):
        override(read_spec(SIZES["tokens"]), picker="prefix-exact")


def test_replicas_that_only_prefill_are_refused_with_a_picker_that_never_asks_them() -> None:
    spec = read_spec(SIZES["tokens"]).model_dump()
    spec["stub"]["tokens"]["prefill_replicas"] = 2
    with pytest.raises(ValueError, match="prefill_replicas: picker round-robin never asks them; set picker to prefill"):
        type(read_spec(SIZES["tokens"])).model_validate(spec)
    type(read_spec(SIZES["tokens"])).model_validate({**spec, "picker": "prefill-decode"})


def test_a_signal_is_not_scraped_without_pause() -> None:
    spec = read_spec(SIZES["tokens"]).model_dump()
    spec["signal"] = {"source": "scraped", "age_ms": 0}
    with pytest.raises(ValueError, match="every 1 ms at most"):
        type(read_spec(SIZES["tokens"])).model_validate(spec)
