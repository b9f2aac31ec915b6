"""A real Envoy as it stands beside a caller, on ports that it finds itself."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from string import Template
from typing import Any

from lab import CHECKOUT
from lab.identity.envoy import sockets_of
from lab.roles._envoy import envoy_address, removed_picks, xds_cluster
from lab.roles._observed import NOT_OBSERVED
from lab.routing import headers
from lab.routing.keys_in_lua import IN_BOOTSTRAP
from tests.waiting import eventually

ENVOY = Path(sys.executable).parent / "envoy"
TEMPLATE = CHECKOUT / "envoy" / "by-routing-key.yaml"


class Envoy:
    """What a test may ask of one that runs."""

    def __init__(self, admin: str, address: str) -> None:
        self.admin, self.address = admin, address

    def stats(self, prefix: str = "") -> dict[str, int]:
        """Its counters and gauges whose name begins so."""
        found = _get(f"http://{self.admin}/stats?format=json&filter=^{prefix}")["stats"]
        return {each["name"]: each["value"] for each in found if "value" in each}

    def discovered(self) -> list[str]:
        """Names of the clusters that it has asked for, and has."""
        found = _get(f"http://{self.admin}/config_dump?resource=dynamic_active_clusters").get("configs", ())
        return sorted(each["cluster"]["name"] for each in found)

    def clusters(self) -> str:
        """Its clusters, as its admin page has them."""
        with urllib.request.urlopen(f"http://{self.admin}/clusters", timeout=5) as answer:
            return str(answer.read(), "utf-8")


@asynccontextmanager
async def envoy_up(control_plane: str, folder: Path, name: str = "sidecar") -> AsyncIterator[Envoy]:
    """An Envoy that asks this control plane, until the test is done with it."""
    loopback = json.dumps(envoy_address("127.0.0.1:0"))
    config = Template(TEMPLATE.read_text()).substitute(
        address=loopback,
        admin_address=loopback,
        **xds_cluster(control_plane),
        role="sidecar",
        via=headers.via("sidecar", "sidecar"),
        shared="",
        tenants="",
        own_filters="",
        own_clusters="",
        own_replies="",
        metadata="",
        access_log=folder / f"{name}.access.log",
        secrets="",
        view_listener="",
        view_cluster="",
        **sockets_of("", name),
        **IN_BOOTSTRAP,
        **removed_picks(),
        **NOT_OBSERVED,
    )
    async with envoy_of(config, folder, name) as envoy:
        yield envoy


@asynccontextmanager
async def envoy_of(config: str, folder: Path, name: str) -> AsyncIterator[Envoy]:
    """An Envoy with this configuration, whose listener is called ``requests``."""
    (folder / f"{name}.yaml").write_text(config)
    admin_file = folder / f"{name}.admin"
    admin_file.unlink(missing_ok=True)
    argv = ["--config-path", str(folder / f"{name}.yaml"), "--admin-address-path", str(admin_file)]
    argv += ["--service-node", name, "--service-cluster", name, "--concurrency", "1"]
    argv += ["--disable-hot-restart", "--log-level", "warn"]
    with (folder / f"{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(str(ENVOY), *argv, stdout=log, stderr=log)
    try:
        admin = await eventually(f"{name} has its ports", lambda: _read(admin_file))
        yield Envoy(admin, await eventually(f"{name} listens", lambda: _listener(admin)))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (our own Envoy's)
        return json.load(answer)


def _listener(admin: str) -> str:
    try:
        found = _get(f"http://{admin}/listeners?format=json")
    except OSError:  # its port is known a moment before it listens there
        return ""
    for each in found.get("listener_statuses", ()):
        if each["name"] == "requests":
            address = each["local_address"]["socket_address"]
            return f"{address['address']}:{address['port_value']}"
    return ""
