"""``python -m lab.plugins.links``: a relay that stands for the link from a zone to a target in another one."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
from zlib import crc32

from lab.plugins.links.control import SERVICE, handlers, link_of
from lab.transport import listen, new_server, run_service, serve_metrics
from lab.transport.relay import relay_to

_log = logging.getLogger("link")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.plugins.links", description=__doc__)
    parser.add_argument("--name", required=True, help="of this link")
    parser.add_argument("--listen", required=True, help="ip:port that serves the control API")
    parser.add_argument("--relay", required=True, help="ip:port that takes connections")
    parser.add_argument("--target", required=True, help="ip:port to which they are passed on")
    for option, which in (("--there", "to"), ("--back", "from")):
        parser.add_argument(
            option, type=json.loads, default={}, help=f"JSON of delay_ms, jitter_ms and mbit_s {which} the target"
        )
    parser.add_argument("--metrics", default="", help="ip:port that serves metrics [default: none]")
    return parser.parse_args()


async def _serve(stop: asyncio.Event, arguments: argparse.Namespace) -> None:
    serve_metrics(arguments.metrics)
    links = link_of(arguments.there), link_of(arguments.back)
    seed = crc32(arguments.name.encode())
    async with relay_to(arguments.target, arguments.relay, links=links, seed=seed) as relay:
        server, _ = new_server(handlers=[handlers(relay, {"target": arguments.target})], admits={SERVICE: ()})
        listen(server, arguments.listen)
        await server.start()
        _log.info("%s relays from %s to %s", arguments.name, relay.address, arguments.target)
        await stop.wait()
        await server.stop(grace=0)


if __name__ == "__main__":
    arguments = _arguments()
    run_service(lambda stop: _serve(stop, arguments))
