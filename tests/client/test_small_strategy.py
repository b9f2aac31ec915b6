"""A strategy of two methods: what it leaves out has a default."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from lab.client import Client, Strategy
from lab.client.rpc_channel import RpcChannel
from lab.routing.attempts import Decision, RequestAttempts, Target
from lab.routing.keys import HEADER
from models.proto.serving.v1 import serving_pb2
from tests.parts import Model, rank_request


class Fixed(Strategy):
    """Sends everything to one model."""

    def __init__(self, address: str) -> None:
        self.channel = RpcChannel((address,))

    async def decide(self, attempts: RequestAttempts, context: Mapping[str, str]) -> tuple[RpcChannel, Decision]:
        del attempts, context
        config = serving_pb2.ModelConfig(model="rows", version="v1")
        target = Target(routing_key="rows.v1", model_config=config, headers=((HEADER, "rows.v1"),))
        return self.channel, Decision(targets=(target,), timeout_s=5.0)

    async def close(self) -> None:
        await self.channel.close()


async def test_two_methods_are_enough(model: Model) -> None:
    client = Client("fixed", "homepage", Fixed(model.address))
    try:
        await client.ready()
        answer = await client.call("HomepageRows", rank_request(), {"user_id": "u1"})
    finally:
        await client.close()

    assert (answer.routing_key, answer.response.answered_by.version) == ("rows.v1", "v1")


def test_a_strategy_that_decides_nothing_is_refused() -> None:
    class Undecided(Strategy):
        async def close(self) -> None: ...

    with pytest.raises(TypeError, match="decide"):
        Undecided()  # type: ignore[abstract]
