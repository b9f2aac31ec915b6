"""``python -m services.renderer``: one proxy, and the renderer that configures it."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

from lab.errors import UnitError
from lab.pickers import DEFAULT_PICKER
from lab.registry import add_plugins
from lab.transport import listen, new_server, run_service, serve_metrics
from services.renderer.proxy import RENDERERS
from services.renderer.renderer import Renderer
from services.rules import Subscriber, run_beside

# Below the time after which the process runtime kills a unit.
_GRACE_S = 4.0

_log = logging.getLogger("services.renderer")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m services.renderer", description="Runs a proxy, and configures it by the rules."
    )
    parser.add_argument("--proxy", required=True, help="name of the renderer, e.g. nginx")
    parser.add_argument("--name", required=True, help="this unit's name at the control plane")
    parser.add_argument("--role", required=True, help="its role")
    parser.add_argument("--listen", required=True, help="ip:port for the proxy")
    parser.add_argument("--control-plane", required=True, help="host:port of the control plane; several with commas")
    parser.add_argument("--picker", default=DEFAULT_PICKER, help="picks the replica in the proxy [%(default)s]")
    parser.add_argument("--metrics", default="", help="ip:port that serves metrics [default: none]")
    parser.add_argument("--plugin", action="append", type=Path, default=[], help="Python file that may define it")
    return parser.parse_args()


async def _serve(stop: asyncio.Event, arguments: argparse.Namespace) -> None:
    name, role = arguments.name, arguments.role
    add_plugins(arguments.plugin)
    proxy = RENDERERS[arguments.proxy].proxy()  # before there are threads, as it forks
    serve_metrics(arguments.metrics)
    server, _ = new_server()
    try:
        port = listen(server, "127.0.0.1:0")
        await server.start()
        renderer = Renderer(
            proxy,
            listen=arguments.listen,
            node=f"{role}/{name}",
            probe=f"127.0.0.1:{port}",
            picker=arguments.picker,
        )
        await renderer.start()
        _log.info("%s serves on %s", arguments.proxy, arguments.listen)
        rules = Subscriber(
            node=name,
            role=role,
            control_plane=arguments.control_plane,
            apply=renderer.put_in_force,
            with_endpoints=True,
        )
        rotating, ended = asyncio.create_task(renderer.follow_certificates()), asyncio.create_task(proxy.ended())
        ended.add_done_callback(lambda _: stop.set())
        await run_beside(stop, rules)
        rotating.cancel()
        if ended.done():
            raise UnitError(f"{arguments.proxy} ended: {ended.result()}")
        ended.cancel()
        _log.info("%s stops", name)
    finally:
        await proxy.stop(_GRACE_S)
        await server.stop(0)


if __name__ == "__main__":
    arguments = _arguments()
    run_service(lambda stop: _serve(stop, arguments))
