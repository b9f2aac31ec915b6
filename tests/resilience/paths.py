"""Scripted replicas behind a real proxy, gateway, or gRPC library."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from lab.client import Answer, Client, Endpoints
from lab.errors import CallError
from lab.topologies import TOPOLOGIES, open_client
from tests.envoys import Envoy, envoy_up
from tests.parts import ControlPlane, Model, gateway_up, rank_request, resolver_up, update, use_case
from tests.proxies import GATEWAYS, proxy_up
from tests.waiting import eventually

KEYS = ("rows.v1", "rows.v2")
TREATED = ["mesh", "gateway", "proxyless"]
"""The topologies that act on a use case's settings."""
GONE = (grpc.StatusCode.UNAVAILABLE, "gone")


class RequestPath:
    """A path to replicas, and the outcomes of the requests sent over it."""

    def __init__(
        self,
        client: Client,
        control_plane: ControlPlane,
        nodes: list[str],
        replicas: tuple[Model, ...],
        envoy: Envoy | None,
    ) -> None:
        self.client, self.control_plane, self.nodes = client, control_plane, nodes
        self.replicas, self.envoy = replicas, envoy
        self.answers: list[Answer] = []
        self.errors: list[CallError] = []

    @property
    def statuses(self) -> Counter[str]:
        """Number of requests by final status."""
        found = Counter(each.code.name for each in self.errors)
        found["OK"] = len(self.answers)
        return +found

    @property
    def arrived(self) -> int:
        """Number of requests that reached the replicas."""
        return sum(len(each.seen) for each in self.replicas)

    @property
    def sent(self) -> int:
        """Number of requests that have ended."""
        return len(self.answers) + len(self.errors)

    def forget(self) -> None:
        """Resets all counts."""
        for replica in self.replicas:
            replica.seen.clear()
            replica.deadlines_s.clear()
        self.answers.clear()
        self.errors.clear()

    def script(self, **attributes: Any) -> None:
        """Sets attributes of every replica, such as ``failure`` and ``before_answer``."""
        for replica in self.replicas:
            for name, value in attributes.items():
                setattr(replica, name, value)

    async def ask(self, times: int = 1, *, at_once: int = 1, **more: Any) -> None:
        """Sends ``times`` requests, ``at_once`` in parallel; ``more`` goes to the client."""
        left = iter(range(times))

        async def send() -> None:
            for _ in left:
                try:
                    call = self.client.call("HomepageRows", rank_request(), {"user_id": "u1"}, **more)
                    self.answers.append(await call)
                except CallError as error:
                    self.errors.append(error)

        await asyncio.gather(*(send() for _ in range(at_once)))

    async def reach(self, replica: Model) -> None:
        """Sends requests until this replica answers one: nodes follow an update with some delay."""
        name = replica.replica
        await self.ask_until(
            f"{name} answers",
            lambda: any(each.response.answered_by.replica == name for each in self.answers[-1:]),
        )

    async def follow(self, *replicas: Model) -> None:
        """Sends requests until only these replicas answer, or none; resets all counts.

        gRPC acknowledges an update just before it applies it.
        """
        names = {each.replica for each in replicas}
        await self.ask_until(
            f"only {names} answer",
            lambda: (
                len(self.answers) == (4 if names else 0)
                and names >= {each.response.answered_by.replica for each in self.answers}
            ),
            4,
            of_last_batch=True,
        )
        self.forget()

    async def ask_until(
        self,
        what: str,
        condition: Callable[[], bool],
        times: int = 1,
        *,
        at_once: int = 1,
        of_last_batch: bool = False,
    ) -> None:
        """Sends batches of ``times`` requests until the condition holds after one of them.

        Args:
            what: the condition, for the error.
            condition: about the counts.
            times: requests in a batch.
            at_once: how many of these are in flight together.
            of_last_batch: the counts are those of the last batch alone.

        Raises:
            DeadlineError: it did not hold in time; names the final statuses.
        """

        async def batch() -> dict[str, int]:
            if of_last_batch:
                self.forget()
            await self.ask(times, at_once=at_once)
            return dict(self.statuses)

        await eventually(what, batch, until=lambda _: condition())

    async def place(self, *replicas: Model, **settings: Any) -> None:
        """Publishes these replicas and settings."""
        self.replicas = replicas
        document = use_case("rows@v1", **settings)
        others = use_case("rows@v2", **{name: each for name, each in settings.items() if name != "shadow"})
        # The other version answers another use case, with the same settings.
        use_cases = {"HomepageRows": document, "Others": others}
        message = update(8, use_cases=use_cases, endpoints={key: [each.address for each in replicas] for key in KEYS})
        await self.control_plane.put_in_force(message, *self.nodes)


@asynccontextmanager
async def open_path(folder: Path, topology: str, *, replicas: int = 2, **settings: Any) -> AsyncIterator[RequestPath]:
    """Opens a topology's path to replicas ``r1``, ``r2`` and so on, with a use case's settings.

    Args:
        folder: for Envoy's files.
        topology: its name.
        replicas: how many there are.
        settings: of the use case, as in the route table.
    """
    async with AsyncExitStack() as stack:
        control_plane = ControlPlane()
        await stack.enter_async_context(control_plane.up())
        models = tuple(Model(*KEYS, replica=f"r{number}") for number in range(1, replicas + 1))
        for model in models:
            await stack.enter_async_context(model.up())
        resolver = await stack.enter_async_context(resolver_up(control_plane.address))
        nodes = ["resolver"]
        envoy = gateway = None
        proxy = {}
        if topology in GATEWAYS:
            role = GATEWAYS[topology]
            proxy = {role: (await stack.enter_async_context(proxy_up(topology, control_plane.address)),)}
            nodes.append(role)
        elif "gateway" in TOPOLOGIES[topology].between:
            gateway = await stack.enter_async_context(gateway_up(control_plane.address))
            nodes.append("gateway")
        elif topology != "proxyless":
            envoy = await stack.enter_async_context(envoy_up(control_plane.address, folder))
        addresses = Endpoints(
            {
                "resolver": (resolver,),
                "sidecar": (envoy.address,) if envoy else (),
                "central-envoy": (envoy.address,) if envoy else (),
                "control-plane": (control_plane.address,),
                "gateway": (gateway,) if gateway else (),
                **proxy,
            },
        )
        client = open_client(topology, "homepage", addresses)
        stack.push_async_callback(client.close)
        opened = RequestPath(client, control_plane, nodes, models, envoy)
        await opened.place(*models, **settings)
        await client.ready()
        if topology == "proxyless":
            for model in models:  # it is ready with a connection to one of them
                await opened.reach(model)
            opened.forget()
        yield opened
