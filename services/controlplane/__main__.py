"""``python -m services.controlplane``."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
from pathlib import Path

from lab.pickers import DEFAULT_PICKER, PICKERS
from lab.registry import add_plugins
from lab.transport import listen, new_server, run_service, serve_metrics
from lab.transport.authorization import roles_in
from lab.transport.rpc_logs import Audited
from services.controlplane.api.audit import METHODS, AuditLog, described
from services.controlplane.api.server import add_apis, admits
from services.controlplane.log_limit import limited_log
from services.controlplane.metrics import expose_metrics
from services.controlplane.nodes.admission import Admission
from services.controlplane.nodes.zones import Zones
from services.controlplane.publishing.publisher import Publisher, Timeouts
from services.controlplane.registry.revisions import Registry

log = logging.getLogger("controlplane")

_FOLLOWER_POLL_S = 0.01


def _arguments() -> argparse.Namespace:
    # @FILE keeps a database password out of the process list.
    parser = argparse.ArgumentParser(
        prog="python -m services.controlplane", description=__doc__, fromfile_prefix_chars="@"
    )
    parser.add_argument("--listen", required=True, help="host:port that serves all APIs")
    parser.add_argument("--registry", required=True, help="SQLite file of the revisions, or postgresql://…")
    parser.add_argument(
        "--name", default="", help="name among the control planes of one registry; empty if there is only one"
    )
    parser.add_argument("--picker", default=DEFAULT_PICKER, help="picks the replica in Envoys [%(default)s]")
    parser.add_argument("--plugin", action="append", type=Path, default=[], help="Python file that may define it")
    parser.add_argument("--metrics", default="", help="ip:port that serves metrics [default: none]")
    defaults = Timeouts()
    parser.add_argument("--load-timeout", type=float, default=defaults.load, help="seconds (%(default)s)")
    parser.add_argument("--acknowledge-timeout", type=float, default=defaults.acknowledge, help="seconds (%(default)s)")
    parser.add_argument("--retire-after", type=float, default=defaults.retire, help="seconds (%(default)s)")
    parser.add_argument(
        "--clusters-idle-after",
        type=float,
        default=0.0,
        help="seconds without a request after which an Envoy drops a cluster; 0 for never (%(default)s)",
    )
    parser.add_argument(
        "--clusters-unasked",
        type=int,
        default=64,
        help="limit of an Envoy's keys up to which it gets all clusters before any request; 0: none (%(default)s)",
    )
    for option, may in (
        ("--rules-for", "subscribe to rules"),
        ("--xds-for", "ask for xDS resources"),
        ("--load-reports-from", "report their load"),
    ):
        parser.add_argument(
            option,
            type=roles_in,
            default=(),
            metavar="ROLE,…",
            help=f"roles that may {may}, where peers prove who they are; only the operator may if left out",
        )
    parser.add_argument(
        "--nodes",
        type=_planned_nodes,
        metavar="FILE",
        help='JSON {"role": ["name", …]} of the planned nodes; all others are refused unless the operator admits them. '
        "Every node is planned if left out",
    )
    parser.add_argument(
        "--zones", type=Zones.read, metavar="FILE", help="JSON of the zones of nodes and replicas [default: none]"
    )
    parser.add_argument(
        "--leave-behind",
        action="store_true",
        help="publish without resolvers and gateways that do not acknowledge in time: their callers may act on earlier "
        "rules",
    )
    return parser.parse_args()


def _planned_nodes(file: str) -> dict[str, frozenset[str]]:
    """The planned nodes in a file, by role."""
    return {role: frozenset(names) for role, names in json.loads(Path(file).read_text()).items()}


async def _serve(arguments: argparse.Namespace, stop: asyncio.Event) -> None:
    serve_metrics(arguments.metrics)
    add_plugins(arguments.plugin)
    registry = Registry(arguments.registry)
    timeouts = Timeouts(arguments.load_timeout, arguments.acknowledge_timeout, arguments.retire_after)
    publisher = Publisher(registry, timeouts, arguments.name)
    publisher.fleet.store.picker = PICKERS[arguments.picker]
    if arguments.leave_behind:
        publisher.fleet.routers.leaves_silent_behind = True
    publisher.restore()
    expose_metrics(publisher)
    audit_log = AuditLog(registry)
    audited = Audited("control-plane", METHODS, audit_log, described, all_refusals=True)
    admission = Admission(registry, arguments.nodes)
    admitted = admits(rules=arguments.rules_for, xds=arguments.xds_for, load_reports=arguments.load_reports_from)
    server, _ = new_server(keepalive=True, admits=admitted, audit=audited)
    add_apis(
        server,
        publisher,
        audit_log,
        admission=admission,
        clusters_idle_after_s=arguments.clusters_idle_after,
        clusters_unasked=arguments.clusters_unasked,
        zones=arguments.zones,
    )
    # Other control planes must wait for this one before its first node connects.
    while arguments.name and arguments.name not in registry.followers():  # noqa: ASYNC110 (the store offers no event)
        await asyncio.sleep(_FOLLOWER_POLL_S)
    listen(server, arguments.listen)
    await server.start()
    log.info("listening on %s", arguments.listen)
    background = [
        asyncio.create_task(work) for work in (publisher.fleet.membership.reap(), audit_log.report_regularly())
    ]
    await stop.wait()
    publisher.fleet.freeze()
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    # Streams never end by themselves; nodes reconnect to the next control plane.
    await server.stop(grace=0)
    await publisher.cancel_background()
    registry.close()


async def _limited(arguments: argparse.Namespace, stop: asyncio.Event) -> None:
    async with limited_log():
        await _serve(arguments, stop)


if __name__ == "__main__":
    arguments = _arguments()
    run_service(lambda stop: _limited(arguments, stop))
