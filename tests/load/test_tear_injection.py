from __future__ import annotations

from lab.client import Passage
from lab.client.decisions import Decision
from lab.load.tear_injection import TearEvery
from models.proto.serving.v1 import serving_pb2

V2 = serving_pb2.ModelConfig(model="rows", version="v2")


async def sent(tear: TearEvery, decision: Decision, attempts: int = 0) -> Passage:
    passage = Passage("HomepageRows", "r1")
    passage.decided(None, decision)  # type: ignore[arg-type]  # nothing is sent
    passage.attempts = attempts
    await tear(passage)
    return passage


async def test_each_nth_request_is_torn_and_the_decision_stays_whole() -> None:
    decision = Decision(routing_key="rows.v2", timeout_s=1, model_config=V2)
    tear = TearEvery(3)

    passages = [await sent(tear, decision) for _ in range(7)]

    configs = [passage.target.model_config for passage in passages]
    assert [False, False, True, False, False, True, False] == [config != V2 for config in configs]
    assert ("rows", "v0") == (configs[2].model, configs[2].version)
    assert decision.model_config == V2
    assert {"rows.v2"} == {passage.target.routing_key for passage in passages}


async def test_a_second_attempt_is_left_alone() -> None:
    decision = Decision(routing_key="rows.v2", timeout_s=1, model_config=V2)
    assert (await sent(TearEvery(1), decision, attempts=1)).target is decision


async def test_where_somebody_else_decides_there_is_nothing_to_tear() -> None:
    decision = Decision(timeout_s=1)
    assert (await sent(TearEvery(1), decision)).target is decision
