from lab.load.steps import TearEvery
from lab.routing.attempts import Decision, RequestAttempts, Target
from models.proto.serving.v1 import serving_pb2

V2 = serving_pb2.ModelConfig(model="rows", version="v2")


async def sent(tear: TearEvery, target: Target, made: int = 0) -> RequestAttempts:
    attempts = RequestAttempts("HomepageRows", "r1", now=0)
    attempts.decided(Decision(targets=(target,), timeout_s=1))
    attempts.made = made
    await tear(attempts)
    return attempts


async def test_each_nth_request_is_torn_and_the_decision_stays_whole() -> None:
    target = Target(routing_key="rows.v2", model_config=V2)
    tear = TearEvery(3)

    requests = [await sent(tear, target) for _ in range(7)]

    configs = [each.target.model_config for each in requests]
    assert [config != V2 for config in configs] == [False, False, True, False, False, True, False]
    assert (configs[2].model, configs[2].version) == ("rows", "v0")
    assert target.model_config == V2
    assert {each.target.routing_key for each in requests} == {"rows.v2"}


async def test_a_second_attempt_is_left_alone() -> None:
    target = Target(routing_key="rows.v2", model_config=V2)
    assert (await sent(TearEvery(1), target, made=1)).target is target


async def test_where_somebody_else_decides_there_is_nothing_to_tear() -> None:
    target = Target()
    assert (await sent(TearEvery(1), target)).target is target
