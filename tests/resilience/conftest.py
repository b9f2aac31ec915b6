"""Replicas that fail as they are told to, behind each way there really is: a real Envoy, gateway, or gRPC library."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from lab.client import Answer, Client, Endpoints
from lab.errors import CallError
from lab.topologies import open_client
from tests.envoys import envoy_up
from tests.parts import WITHIN_S, ControlPlane, Model, gateway_up, rank_request, resolver_up, update, use_case

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from tests.envoys import Envoy

KEYS = ("rows.v1", "rows.v2")


class Way:
    """A way to two replicas, and what came of the requests that were sent over it."""

    def __init__(
        self, client: Client, control_plane: ControlPlane, replicas: tuple[Model, ...], envoy: Envoy | None
    ) -> None:
        self.client, self.control_plane, self.replicas, self.envoy = client, control_plane, replicas, envoy
        self.answers: list[Answer] = []
        self.errors: list[CallError] = []

    @property
    def statuses(self) -> Counter[str]:
        """How requests ended."""
        found = Counter(each.code.name for each in self.errors)
        found["OK"] = len(self.answers)
        return +found

    @property
    def arrived(self) -> int:
        """How many requests the replicas have seen."""
        return sum(len(each.seen) for each in self.replicas)

    @property
    def sent(self) -> int:
        """How many requests have ended."""
        return len(self.answers) + len(self.errors)

    def forget(self) -> None:
        """Begins to count anew."""
        for replica in self.replicas:
            replica.seen.clear()
            replica.deadlines_s.clear()
        self.answers.clear()
        self.errors.clear()

    async def ask(self, times: int = 1, *, at_once: int = 1) -> None:
        """Sends so many requests, so many at once."""
        left = iter(range(times))

        async def send() -> None:
            for _ in left:
                try:
                    self.answers.append(await self.client.call("HomepageRows", rank_request(), {"user_id": "u1"}))
                except CallError as error:
                    self.errors.append(error)

        await asyncio.gather(*(send() for _ in range(at_once)))

    async def reach(self, replica: Model) -> None:
        """Sends requests until this replica answers one: nodes follow a moment after they were told to."""
        give_up = time.monotonic() + WITHIN_S
        while not self.answers or self.answers[-1].response.answered_by.replica != replica.replica:
            assert time.monotonic() < give_up, f"nothing reached {replica.replica}: {self.statuses}"
            await self.ask()

    async def place(self, *replicas: Model, **settings: Any) -> None:
        """These are the replicas from now on, and these the settings."""
        self.replicas = replicas
        document = use_case("rows@v1", **settings)
        others = use_case("rows@v2", **{name: each for name, each in settings.items() if name != "shadow"})
        # The other version answers another use case, with the same settings.
        use_cases = {"HomepageRows": document, "Others": others}
        message = update(8, use_cases=use_cases, endpoints={key: [each.address for each in replicas] for key in KEYS})
        await self.control_plane.put_in_force(message, *self.control_plane.nodes)


@pytest.fixture
def way(tmp_path) -> Callable[..., AbstractAsyncContextManager[Way]]:
    """Opens a way by a topology to two replicas, ``r1`` and ``r2``, with a use case's settings."""

    @asynccontextmanager
    async def open_way(topology: str, *, replicas: int = 2, **settings: Any) -> AsyncIterator[Way]:
        async with AsyncExitStack() as stack:
            control_plane = ControlPlane()
            await stack.enter_async_context(control_plane.up())
            models = tuple(Model(*KEYS, replica=f"r{number}") for number in range(1, replicas + 1))
            for model in models:
                await stack.enter_async_context(model.up())
            resolver = await stack.enter_async_context(resolver_up(control_plane.address))
            control_plane.nodes = ["resolver"]
            envoy = gateway = None
            if topology.startswith("gateway") and topology != "gateway-header":
                gateway = await stack.enter_async_context(gateway_up(control_plane.address))
                control_plane.nodes.append("gateway")
            elif topology != "proxyless":
                envoy = await stack.enter_async_context(envoy_up(control_plane.address, tmp_path))
            addresses = Endpoints(
                {
                    "resolver": (resolver,),
                    "sidecar": (envoy.address,) if envoy else (),
                    "central-envoy": (envoy.address,) if envoy else (),
                    "control-plane": (control_plane.address,),
                    "gateway": (gateway,) if gateway else (),
                },
            )
            client = open_client(topology, "homepage", addresses)
            stack.push_async_callback(client.close)
            opened = Way(client, control_plane, models, envoy)
            await opened.place(*models, **settings)
            await client.ready()
            yield opened

    return open_way
