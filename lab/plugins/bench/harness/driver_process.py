"""The driver process of a bench: it holds one warm client per variant and runs their trials one at a time.

``python -m lab.plugins.bench.harness.driver_process``. It reads one JSON object a line from standard input,
``{"variant": NAME, "plan": PLAN.json}``, carries that plan out through the variant's client in an open loop, as
``lab.load.driver`` does, and writes one JSON object a line to standard output: ``{"took_s": SECONDS}`` or
``{"error": REASON}``. With
``"in_flight": N`` it runs a closed loop instead; with ``"identity": FOLDER`` the client uses the certificate in that
folder; ``"environment"`` is the caller's own, by which its requests are traced. The history goes to the plan's spool. A
client is opened and warmed up at its variant's first trial, so no trial
pays for a process, a connection or a lease.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from lab.errors import LabError, UnitError
from lab.history import SpoolWriter
from lab.load.mix import Payloads
from lab.load.open_loop import NS, OpenLoop, Stop
from lab.load.plan import LoadPlan, read_plan
from lab.load.steps import raise_priority
from lab.plugins.bench.harness.senders import keep_busy
from lab.topologies import open_client
from lab.transport import tracing
from lab.transport.security import MTLS, Security

if TYPE_CHECKING:
    from lab.client import Client

WARM_UP_CALLS = 20
NICENESS = -15
"""A higher priority than the lab's units, which have -5."""


async def serve() -> None:
    """Runs trials until standard input ends."""
    clients: dict[str, Client] = {}
    raise_priority(NICENESS)
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            variant = command["variant"]
            answer: dict[str, object]
            try:
                plan = read_plan(Path(command["plan"]))
                tracing.start(command.get("environment", {}))
                if variant not in clients:
                    clients[variant] = await _warm_client(plan, command.get("identity", ""))
                answer = {"took_s": await _trial(clients[variant], plan, command.get("in_flight", 0))}
            except LabError as error:
                answer = {"error": str(error)}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        await asyncio.gather(*(client.close() for client in clients.values()))


async def _trial(client: Client, plan: LoadPlan, in_flight: int) -> float:
    with SpoolWriter(plan.spool) as spool:
        if in_flight:
            return await keep_busy(plan, client, spool, in_flight=in_flight)
        loop = OpenLoop(plan, plan.schedule(), client, spool, Stop())
        await loop.run()
        return (loop.end_ns - loop.start_ns) / NS


async def _warm_client(plan: LoadPlan, identity: str) -> Client:
    security = Security(MTLS, identity) if identity else None
    client = open_client(plan.topology, plan.caller, plan.endpoints, security=security)
    try:
        await client.ready()
        payloads = Payloads()
        for use_case in plan.use_cases:
            message = payloads.get(use_case.api, plan.payload_bytes).message
            for _ in range(WARM_UP_CALLS):
                await client.call(use_case.name, message, {"user_id": "warm-up"})
    except LabError as error:
        await client.close()
        raise UnitError(f"{plan.topology} answers no call: {error}") from error
    return client


if __name__ == "__main__":
    uvloop.run(serve())
