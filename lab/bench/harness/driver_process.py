"""The driver of a bench: one process that holds a client for each arm and lets them take turns.

``python -m lab.bench.harness.driver_process``. It takes one JSON object a line on standard input, ``{"arm": NAME,
"plan": PLAN.json}``, carries that plan out through the arm's client in an open loop, as ``lab.load.driver`` does, and
answers with one on standard output: ``{"took_s": SECONDS}``, or ``{"error": WHY}``. With ``"in_flight": N`` it goes in
a closed loop instead, and with ``"identity": FOLDER`` the client has the certificate there. The history goes to the
plan's spool. A client is opened, and warmed up, when its arm comes for the first time: no turn pays for a process, a
connection or a lease.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from lab.bench.harness.closed_loop import keep_busy
from lab.errors import LabError, UnitError
from lab.history import SpoolWriter
from lab.load.engine import raise_priority
from lab.load.mix import Payloads
from lab.load.open_loop import NS, OpenLoop, Stop
from lab.load.plan import read_plan
from lab.topologies import open_client
from lab.transport.security import MTLS, Security

if TYPE_CHECKING:
    from lab.client import Client
    from lab.load.plan import LoadPlan

WARM_UP_CALLS = 20
NICENESS = -15
"""Before the units of the lab, which have -5."""


async def serve() -> None:
    """Takes turns until standard input ends."""
    clients: dict[str, Client] = {}
    raise_priority(NICENESS)
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            answer: dict[str, object]
            try:
                plan = read_plan(Path(asked["plan"]))
                if asked["arm"] not in clients:
                    clients[asked["arm"]] = await _opened(plan, asked.get("identity", ""))
                answer = {"took_s": await _turn(clients[asked["arm"]], plan, asked.get("in_flight", 0))}
            except LabError as error:
                answer = {"error": str(error)}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        await asyncio.gather(*(client.close() for client in clients.values()))


async def _turn(client: Client, plan: LoadPlan, in_flight: int) -> float:
    with SpoolWriter(plan.spool) as spool:
        if in_flight:
            return await keep_busy(plan, client, spool, in_flight=in_flight)
        loop = OpenLoop(plan, plan.schedule(), client, spool, Stop())
        await loop.run()
        return (loop.end_ns - loop.start_ns) / NS


async def _opened(plan: LoadPlan, identity: str) -> Client:
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
