"""Each picker against its second reader, and each replica's journal against its replay: they agree until one errs."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from random import Random
from typing import Any

import msgpack
import pytest

from lab.pickers import GATEWAY, PICKERS, Asked, Chooses, Seen, Speed
from lab.plugins.pickers.adapters import adapter_objections, misread, times_of
from lab.plugins.pickers.kv_events import strayed
from lab.plugins.pickers.readers import READERS
from lab.plugins.pickers.replicas import changes_of, objections
from models.proto.generation.v1 import generation_pb2
from models.tokens.blocks import Change, chain
from models.tokens.engine import FullError, TokenEngine
from models.tokens.kv_events import ARRAYS, MAPS, KvEvents
from models.tokens.settings import TokenSettings

ADDRESSES = [f"10.0.0.{place}:1" for place in range(4)]
SETTINGS = TokenSettings(max_num_seqs=3, queue_limit=2, blocks=24, max_loras=2)
SPEEDS = (Speed(20, 0.35, 15, 2, 3), Speed(40, 0.7, 30, 3, 1), Speed())
SLOS = ((0, 0), (60, 25), (150, 0), (0, 28), (5, 5))
LORAS = ("", "l-1", "l-2", "l-3", "l-4")

Choose = Callable[[int, Sequence[Seen]], int]
Prefill = Callable[[str, Sequence[Seen]], str]


def drawn(random: Random, number: int) -> Asked:
    conversation, turns = random.randrange(12), random.randrange(1, 5)
    prompt = [*range(conversation % 3 * 1_000, conversation % 3 * 1_000 + 64), *range(conversation * 7, turns * 120)]
    tenant = random.choice(["a", "b"])
    lora, slo = random.choice(LORAS), random.choice(SLOS)
    hashes = chain(prompt, tenant=tenant, lora=lora)
    return Asked(f"r-{number}", hashes, len(prompt), f"s{conversation}", lora, tenant, *slo)


def adapters(random: Random) -> tuple[list[str], list[str], int]:
    """What a replica may say of its adapters."""
    names = random.sample(LORAS[1:], random.randrange(4))
    return names[:2], names[2:], 2


def objected(name: str, spoil: Choose, steps: int = 400, prefill: Prefill = lambda address, _: address) -> int:
    """Returns how many picks the second reader of a picker objects to, if its picks are spoilt so."""
    made, reader, random, wrong = PICKERS[name].at(GATEWAY), READERS[name].make(), Random(7), 0  # noqa: S311 (not security-relevant)
    assert isinstance(made, Chooses)
    chooser, in_flight = made.make(), Counter[str]()
    running: list[tuple[Asked, str]] = []
    batches = Counter[str]()
    for number in range(steps):
        while running and random.random() < 0.45:
            asked, address = running.pop(random.randrange(len(running)))
            in_flight[address] -= 1
            chooser.ended(asked, address)
            reader.over(document(asked), address)
        asked = drawn(random, number)
        if hasattr(chooser, "on_kv_events"):
            for each, batch, payload in events(random, asked, batches):
                chooser.on_kv_events(each, batch, payload)
                reader.heard([(each, batch, payload.hex())])
        present = [each for each in ADDRESSES if number < 200 or each != ADDRESSES[1]]
        seen = [
            Seen(
                *(each, in_flight[each], random.randrange(4), random.randrange(3), random.random(), 20.0),
                *adapters(random),
                speed=random.choice(SPEEDS),
                prefills=each in ADDRESSES[2:],
            )
            for each in present
        ]
        seen = [each._replace(age_ms=-1.0, prefills=False) if random.random() < 0.1 else each for each in seen]
        place, documents = spoil(chooser.pick(asked, seen), seen), [each._asdict() for each in seen]
        address = seen[place].address
        wrong += address not in reader.allowed(document(asked), documents)
        picks: Any = chooser
        prefiller = prefill(picks.prefiller(asked, seen, place) if made.picks_prefillers else "", seen)
        wrong += prefiller not in reader.prefillers(document(asked), documents, address)
        if prefiller:
            reader.prefills(document(asked), prefiller)
        reader.took(document(asked), address)
        in_flight[address] += 1
        running.append((asked, address))
    return wrong


def events(random: Random, asked: Asked, batches: Counter[str]) -> Iterator[tuple[str, int, bytes]]:
    """KV events of some replicas in either format; now and then a batch is lost, or a replica starts again."""
    for address in random.sample(ADDRESSES, random.randrange(3)):
        batches[address] = 0 if random.random() < 0.1 else batches[address] + (random.random() < 0.05)
        blocks = [int.from_bytes(each, "big") for each in asked.hashes[: random.randrange(1, 9)]]
        kind = random.choice(["BlockStored", "BlockStored", "BlockRemoved"])
        event = random.choice([[kind, blocks, None], {"type": kind, "block_hashes": blocks}])
        cleared = [["AllBlocksCleared"]] if random.random() < 0.02 else []
        yield address, batches[address], msgpack.packb([0.0, [*cleared, event], 0])
        batches[address] += 1


def document(asked: Asked) -> dict[str, Any]:
    return {**asked._asdict(), "hashes": b"".join(asked.hashes).hex()}


@pytest.mark.parametrize("name", READERS)
def test_a_second_reader_allows_what_its_picker_picks(name: str) -> None:
    assert objected(name, lambda place, _: place) == 0


@pytest.mark.parametrize(
    "name", ["power-of-two", "queue-depth", "weighted", "ring-hash", "lora", "prefix-exact", "slo"]
)
def test_a_second_reader_objects_to_other_picks(name: str) -> None:
    busiest: Choose = lambda _, seen: max(range(len(seen)), key=lambda each: seen[each].load)  # noqa: E731
    assert objected(name, busiest) > 40


@pytest.mark.parametrize(
    "prefill",
    [
        lambda *_: "",
        lambda address, seen: address or next((each.address for each in seen if each.prefills), ""),
        lambda address, seen: next((each.address for each in seen if each.prefills), "") if address else "",
    ],
    ids=["decode only", "prefill always", "prefill at the first one"],
)
def test_a_second_reader_objects_to_other_prefillers(prefill: Prefill) -> None:
    assert objected("prefill-decode", lambda place, _: place, prefill=prefill) > 40


@pytest.mark.parametrize("name", ["prefix", "session"])
def test_a_second_reader_objects_to_what_its_picker_forgets(name: str) -> None:
    made, reader = PICKERS[name].at(GATEWAY), READERS[name].make()
    assert isinstance(made, Chooses)
    asked = drawn(Random(1), 0)  # noqa: S311 (not security-relevant)
    seen = [Seen(each, 0, 0, 0, 0.0, 20.0) for each in ADDRESSES]
    reader.took(document(asked), ADDRESSES[2])

    forgetful = {seen[made.make().pick(asked, seen)].address for _ in range(100)}

    assert reader.allowed(document(asked), [each._asdict() for each in seen]) == {ADDRESSES[2]}
    assert forgetful == {*ADDRESSES}


def test_every_picker_that_chooses_has_a_second_reader() -> None:
    assert {name for name, each in PICKERS.items() if isinstance(each.at(GATEWAY), Chooses)} == READERS.keys()


@pytest.fixture
async def journal() -> list[dict[str, Any]]:
    """The journal of a replica with few blocks, that was asked by more than it can serve."""
    engine, random = TokenEngine(SETTINGS), Random(3)  # noqa: S311 (not security-relevant)

    async def ask(number: int) -> None:
        asked = drawn(random, number)
        group = number % 5 * 1_000
        prompt = range(group, group + random.randrange(30, 150))
        request = generation_pb2.GenerateRequest(prompt=prompt, max_tokens=1, lora=asked.lora)
        request.envelope.request_id, request.envelope.context.tenant = asked.request_id, asked.tenant
        await asyncio.sleep(0)
        try:
            async with engine.run(request):
                for _ in range(random.randrange(1, 9)):
                    await asyncio.sleep(0)
        except FullError:
            pass

    for start in range(0, 400, 8):
        await asyncio.gather(*(ask(number) for number in range(start, start + random.randrange(3, 9))))
    return [json.loads(line) for line in engine.journal()]


def test_a_replay_agrees_with_the_replica(journal: list[dict[str, Any]]) -> None:
    assert list(objections("a-1", journal, asdict(SETTINGS))) == []
    assert list(adapter_objections("a-1", journal, asdict(SETTINGS))) == []
    assert any(each["evicted"] for each in journal)
    assert any(each["slot"] > each["began"] + 1 for each in journal)
    assert any(each["shed"] for each in journal)
    assert len({each["cached"] for each in journal}) > 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"blocks": 25}, "tokens were cached, and"),
        ({"max_num_seqs": 2}, "and may serve 2"),
        ({"queue_limit": 4}, "refused it with 5 requests of the 7 that it has room for"),
    ],
)
def test_a_replica_with_other_limits_is_found(
    journal: list[dict[str, Any]], settings: dict[str, int], said: str
) -> None:
    assert any(said in each.message for each in objections("a-1", journal, {**asdict(SETTINGS), **settings}))


def test_a_claim_that_is_changed_and_an_order_that_is_turned_are_found(journal: list[dict[str, Any]]) -> None:
    claimed = [{**each, "cached": each["cached"] + 16 * (each["request_id"] == "r-40")} for each in journal]
    [found] = objections("a-1", claimed, asdict(SETTINGS))
    assert found.request_id == "r-40"

    began = [each for each in journal if each["began"]]
    turned = [{**each, "began": began[-1]["began"] - 1} if each is began[0] else each for each in journal]
    assert any(
        "before one that had come earlier" in each.message for each in objections("a-1", turned, asdict(SETTINGS))
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_loras": 3}, "let it wait for"),
        ({"max_loras": 1}, "and not every slot is in use"),
        ({"lora_load_ms": 50}, "served it before"),
    ],
)
def test_other_rules_for_adapters_are_found(journal: list[dict[str, Any]], settings: dict[str, int], said: str) -> None:
    found = adapter_objections("a-1", journal, {**asdict(SETTINGS), **settings})
    assert any(said in each.message for each in found)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ({"evicted": "l-9"}, "evicted l-9 for"),
        ({"loads": False}, "did not load"),
        ({"slot": 0}, "served it without"),
    ],
)
def test_an_adapter_that_was_not_loaded_by_the_rules_is_found(
    journal: list[dict[str, Any]], spoil: dict[str, Any], said: str
) -> None:
    first = next(each for each in journal if each["evicted"])
    spoilt = [{**each, **spoil} if each is first else each for each in journal]
    assert any(said in each.message for each in adapter_objections("a-1", spoilt, asdict(SETTINGS)))


def test_a_signal_of_adapters_that_were_not_there_is_found() -> None:
    def loaded(slot: int, lora: str, evicted: str = "") -> dict[str, Any]:
        return {"slot": slot, "slot_ns": 100 * slot, "loads": True, "lora": lora, "evicted": evicted}

    times = times_of([loaded(1, "a"), loaded(2, "b"), loaded(5, "c", evicted="a")])

    assert misread(["a", "b"], times, 300, 350) == ""
    assert misread(["a", "b"], times, 450, 550) == misread(["c", "b"], times, 450, 550) == ""
    assert misread(["b"], times, 300, 350) == "no a, which was there"
    assert misread(["a", "b"], times, 600, 650) == "a, which was not there"
    assert misread(["b", "d"], times, 450, 550) == "d, which was not there"


@pytest.mark.parametrize("form", [ARRAYS, MAPS])
def test_kv_events_are_compared_with_what_the_cache_did(journal: list[dict[str, Any]], form: int) -> None:
    events = KvEvents(form)
    picks: list[dict[str, Any]] = []
    for number, (block, is_stored) in enumerate(changes_of(journal, SETTINGS.blocks)[:60]):
        change = Change(bytes.fromhex(block), is_stored)
        events.publish([change], [change.block], "")
        _, payload = events._batches[-1]
        picks.append({"group": 1, "asked": {"request_id": f"r-{number}"}, "kv_events": [("a", number, payload.hex())]})

    def found(spoilt: list[dict[str, Any]]) -> list[str]:
        return [*strayed(spoilt, "a", journal, SETTINGS.blocks)]

    assert any(not is_stored for _, is_stored in changes_of(journal, SETTINGS.blocks)[:60])
    assert found(picks) == []
    assert found(picks[:20] + picks[25:]) == []  # lost on the way
    wrong = {**picks[30], "kv_events": [("a", 30, picks[31]["kv_events"][0][2])]}
    assert found([*picks[:30], wrong, *picks[31:]]) == ["r-30"]
