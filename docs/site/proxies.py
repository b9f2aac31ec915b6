"""Measures the proxies of docs/proxies.md: what each adds, how it changes under load, its memory by routing keys."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from docs.site.links import CHECKOUT
from docs.site.measuring import lab_json
from docs.site.tables import proxied
from lab.errors import UnitError
from lab.identity import Identity
from lab.lab import Lab
from lab.measure.compare import median_difference
from lab.measure.findings import in_its_interval
from lab.plugins.capacity.costs import TITLE
from lab.plugins.proxies.programs import PROGRAMS
from lab.transport import listen, new_server
from scenarios.framework.moves import last_old_ms, move_there_and_back
from scenarios.framework.steps import load_on, under_load
from services.renderer.proxy import RENDERERS, rendered_topologies
from services.renderer.renderer import Renderer
from services.rules import RuleSet

KEYS = (10, 1_000, 10_000)
CHANGES, RATE_RPS = 50, 400.0

LOAD_POINT = "400 B, 100 rps"
# HAProxy has 256 backends.
_UPSTREAMS = 100
_WITHIN_S = 120.0
_COLUMNS = (
    "topology",
    "added over direct, p50, ms",
    "added over direct, CPU s per 1,000",
    f"failed, misrouted in {CHANGES} changes at {RATE_RPS:g} rps",
    "change to last old answer, ms: median, most",
    *(f"MB at {number:,} keys" for number in KEYS),
)


def measure(rounds: int) -> dict[str, Any]:
    """The proxies that this machine has, beside the lab's central Envoy, in the form of a bench: one table.

    Raises:
        UnitError: a bench ended without a result.
    """
    rendered = rendered_topologies()
    topologies = [each for each in proxied() if each not in rendered or rendered[each].installed]
    command = f"lab bench topologies throughput --topologies {','.join(topologies)} --rounds {rounds}"
    # First what takes less time.
    others = {name: (*_changed(name), *_memory(name)) for name in topologies}
    costs = _costs(command, topologies)
    rows = [[name, *costs[name], *others[name]] for name in topologies]
    table = {"title": "each proxy", "columns": list(_COLUMNS), "numbers": list(_COLUMNS[1:]), "rows": rows}
    return {"ran": {"rounds": rounds, "command": command}, "figures": {}, "tables": [table]}


def _costs(command: str, topologies: list[str]) -> dict[str, tuple[str, str]]:
    """What each topology adds over a direct call, by its name: at the median, and in processor time."""
    latency, throughput = lab_json(f"{command} --json")["benches"]
    return {name: (added_ms(latency, name), added_cpu_s(throughput, name)) for name in topologies}


def added_ms(bench: dict[str, Any], topology: str) -> str:
    """What a topology adds over a direct call at the median, ms, from the document of ``lab bench topologies``."""
    its, direct = (bench["rounds"][f"{name}, {LOAD_POINT}"] for name in (topology, "direct"))
    return in_its_interval(median_difference(its, direct))


def added_cpu_s(bench: dict[str, Any], topology: str) -> str:
    """What 1,000 requests add over direct calls, seconds, from the document of ``lab bench throughput``."""
    costs = next(each for each in bench["tables"] if each["title"] == TITLE)
    sums = {row[0]: row[-1] for row in costs["rows"]}
    return f"{sums[topology] - sums['direct']:.2f}"


def _changed(topology: str) -> tuple[str, str]:
    """What fails while a model moves to and fro, and how long the cluster that it has left answers."""
    with TemporaryDirectory() as home:
        lab = Lab("proxies", home=Path(home))
        routes = CHECKOUT / "routes.yaml"
        load = load_on(
            topology, RATE_RPS, duration_s=300, contexts={"device": ("phone", "tv"), "country": ("DE", "US")}
        )
        try:
            lab.up(topologies=[topology], runtime="process")
            with under_load(lab, load) as run:
                moves = move_there_and_back(lab, routes, Path(home), CHANGES)
            result = run.result()
            last_ms = last_old_ms(result, moves)
        finally:
            lab.down()
    return (
        f"{result.summary.failed}, {result.misrouted} of {result.summary.ok + result.summary.failed:,}",
        f"{median(last_ms):.0f}, {max(last_ms):.0f}",
    )


def _memory(topology: str) -> list[str]:
    """Memory of the proxy alone, by the number of its keys."""
    renderer = rendered_topologies().get(topology)
    if renderer is None:
        return ["see [scale](scale.md)"] * len(KEYS)
    return [_memory_of(renderer.name, number) for number in KEYS]


def _memory_of(proxy: str, keys: int) -> str:
    from lab.identity.authority import Authority, folder_of  # noqa: PLC0415 (its library is heavy)

    with TemporaryDirectory() as home:
        folder = Path(home) / "pki"
        Authority.create(folder, lifetime_s=3600, key_mode=0o600).issue(proxy, Identity(proxy, proxy), {"127.0.0.1"})
        security = {"LAB_SECURITY": "mtls", "LAB_IDENTITY": str(folder_of(folder, proxy))}
        # In its own process, as a proxy's renderer leads a process group.
        argv = (sys.executable, "-m", "docs.site.proxies", proxy, str(keys))
        done = subprocess.run(
            argv, cwd=CHECKOUT, env={**os.environ, **security}, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise UnitError(f"{' '.join(argv[1:])}: {done.stderr.strip().splitlines()[-1:]}")
    return f"{float(done.stdout):.0f}"


async def _megabytes(name: str, keys: int) -> float:
    """Proportional memory of a proxy with this number of routing keys, once it answers by them, MB (10^6 bytes)."""
    proxy = RENDERERS[name].proxy()
    server, _ = new_server()
    try:
        probe = f"127.0.0.1:{listen(server, '127.0.0.1:0')}"
        await server.start()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        renderer = Renderer(proxy, listen=address, node=f"{name}/{name}", probe=probe, within_s=_WITHIN_S)
        await renderer.start()
        await renderer.put_in_force(_rules(keys))
        return sum(each.memory_full_info().pss for each in _processes(PROGRAMS[name].name)) / 1e6
    finally:
        await proxy.stop(1.0)
        await server.stop(0)


def _rules(keys: int) -> RuleSet:
    names = {f"bench.v{number}": number % _UPSTREAMS for number in range(1, keys + 1)}
    return RuleSet(
        endpoints={
            key: tuple(f"127.0.0.1:{port}" for port in (20_000 + its, 30_000 + its)) for key, its in names.items()
        },
        clusters={key: (f"ml-cluster-{its}", "") for key, its in names.items()},
    )


def _processes(program: str) -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if program in each.name()]


if __name__ == "__main__":
    sys.stdout.write(str(asyncio.run(_megabytes(sys.argv[1], int(sys.argv[2])))))
