"""``python -m lab.plugins.foreign_pickers``: a router, with doors of the replicas behind it and a front before it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import secrets
from contextlib import AsyncExitStack, suppress

import aiohttp

from lab.errors import UnitError
from lab.plugins.foreign_pickers.door import Door
from lab.plugins.foreign_pickers.front import Front
from lab.plugins.foreign_pickers.routers import NEUTRAL, ROUTERS, Router, free_ports
from lab.transport import RestServer, Security, drain, listen, new_server, run_service, serve_metrics
from services.renderer.child import Child

# Below the time after which the process runtime kills a unit.
_GRACE_S = 4.0
_POLL_INTERVAL_S = 0.05
_ADMITS = {"generate.v1.Generation": ("caller",)}

_log = logging.getLogger("lab.plugins.foreign_pickers")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lab.plugins.foreign_pickers", description="A router between its callers and replicas."
    )
    parser.add_argument("--name", required=True, help="this unit's name")
    parser.add_argument("--role", required=True, help="its role, which names the router")
    parser.add_argument("--listen", required=True, help="ip:port to serve gRPC on")
    parser.add_argument("--cluster", required=True, help="cluster of the replicas")
    parser.add_argument("--replicas", required=True, help="ip:port of each, with commas")
    parser.add_argument("--policy", required=True, help="by which the router picks, as it calls it")
    parser.add_argument("--use-cases", required=True, help="names of the use cases, with commas")
    parser.add_argument("--metrics", default="", help="ip:port that serves metrics [default: none]")
    return parser.parse_args()


async def _ready(session: aiohttp.ClientSession, url: str) -> None:
    """Returns once the router answers with 200."""
    while True:
        with suppress(aiohttp.ClientError, TimeoutError):
            async with session.get(url, timeout=aiohttp.ClientTimeout(total=1)) as reply:
                if reply.ok:
                    return
        await asyncio.sleep(_POLL_INTERVAL_S)


async def _serve(stop: asyncio.Event, arguments: argparse.Namespace) -> None:
    router: Router = ROUTERS[arguments.role.removesuffix(NEUTRAL)]
    child = Child()  # before there are threads, as it forks
    key = secrets.token_hex(16)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(child.stop, _GRACE_S)
        serve_metrics(arguments.metrics)
        workers = []
        for replica in arguments.replicas.split(","):
            door = Door(replica, arguments.cluster, arguments.use_cases.split(","), key)
            rest = RestServer(door)
            stack.push_async_callback(door.close)
            stack.push_async_callback(rest.close)
            workers.append(f"http://127.0.0.1:{rest.listen('127.0.0.1:0', Security())}")
        host, ports = free_ports()
        neutral = arguments.role.endswith(NEUTRAL)
        child.run(router.argv(arguments.policy, host, ports, workers, neutral=neutral), remedy=router.remedy)
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, trust_env=False))
        url = f"http://{host}:{ports[0]}"
        ended = asyncio.create_task(child.ended())
        ended.add_done_callback(lambda _: stop.set())
        ready, stopped = asyncio.create_task(_ready(session, url + router.ready)), asyncio.create_task(stop.wait())
        await asyncio.wait({ready, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            front = Front(arguments.role, arguments.name, url, key, session)
            server, healthy = new_server(handlers=[front], admits=_ADMITS)
            listen(server, arguments.listen)
            await server.start()
            _log.info("%s serves on %s", arguments.name, arguments.listen)
            await stop.wait()
            _log.info("%s stops", arguments.name)
            await drain(server, healthy, grace_s=_GRACE_S)
        ready.cancel()
        if ended.done():
            raise UnitError(f"{router.name} ended: {ended.result()}")
        ended.cancel()


if __name__ == "__main__":
    arguments = _arguments()
    run_service(lambda stop: _serve(stop, arguments))
