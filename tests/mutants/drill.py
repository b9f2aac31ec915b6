"""``python -m tests.mutants.drill NAME TOPOLOGY``: brings a lab up, drives it, and prints the folders of its runs.

It runs in the copy of the lab that has the bug. A command that fails ends the drill; its last line says why.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.client.admin import AdminClient
from lab.errors import LabError
from lab.lab import Lab
from lab.runs.parallel import runs_in
from lab.runtime.state import LabState
from lab.waiting import eventually
from tests.clock.wall_clock import set_wall_clock, wall_clock
from tests.mutants.catalogue import CHECKOUT, HOME

if TYPE_CHECKING:
    from lab.client.admin_values import ControlPlaneStatus

NAME = f"mutant-{os.getpid()}"  # several may be tried at once on one machine
_LAB = (sys.executable, "-c", "from lab.cli import main; main()")
_MIX = (
    "--context",
    "device=tv,phone,web",
    "--context",
    "country=DE,US,Österreich,de",
    "--context",
    "segment=kids,adults",
)
_CLUSTERS = ("one", "two", "three")  # of lab.toml
_TIMEOUT_S = 120
_STARTED_S, _TURNED = 5, timedelta(seconds=100)
_JUDGED = (0, 1, 2)  # exit statuses of load that was judged, by the copy's own checkers


def lab(*arguments: str, check: bool = True) -> str:
    """Runs a command of the lab, and returns what it prints."""
    done = subprocess.run((*_LAB, *arguments), capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if check and done.returncode:
        sys.exit(f"lab {' '.join(arguments)}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return done.stdout


def load(
    topology: str, meanwhile: Callable[[], object] = lambda: None, *more: str, seconds: int = 8, after_s: float = 0
) -> None:
    """Drives load, with something done meanwhile; the verdicts of this copy of the lab do not count."""
    arguments = [
        "load",
        "--name",
        NAME,
        "--topology",
        topology,
        "--rate",
        "100",
        "--duration",
        str(seconds),
        *_MIX,
        *more,
    ]
    with subprocess.Popen((*_LAB, *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as driver:
        assert driver.stderr is not None
        said: list[str] = []
        for line in driver.stderr:  # until the first answer
            said.append(line)
            if re.search(r"\b[1-9]\d* done", line):
                break
        time.sleep(after_s or seconds / 2)  # the middle of the load: nothing waits for it
        meanwhile()
        errors = "".join([*said, driver.communicate(timeout=_TIMEOUT_S)[1]])
    if driver.returncode not in _JUDGED:
        sys.exit(f"lab {' '.join(arguments)}: {errors[-1000:]}")


def publish(topology: str) -> None:
    """Moves a key and changes a config while load runs."""
    load(topology, _publish)


def _publish() -> None:
    """Publishes from here: on a busy machine a command may begin when the load is over."""
    with suppress(LabError):
        Lab(NAME).routes.publish(HOME / "moved.routes.yaml")


def rollback(topology: str) -> None:
    """Moves a key and changes a config, and goes back, while load runs."""

    def there_and_back() -> None:
        _publish()
        with suppress(LabError):
            Lab(NAME).routes.rollback(1)

    load(topology, there_and_back)


def _stage(caller: str) -> None:
    """Stages a revision in which another version answers the use case that both callers have."""
    text = (HOME / "routes.yaml").read_text()
    (file := HOME / "staged.routes.yaml").write_text(text.replace("default: rows@v2", "default: rows@v1"))
    Lab(NAME).routes.publish(file, callers=[caller])


def staged(topology: str) -> None:
    """Stages a revision for the caller that asks, and takes it back, while load runs."""

    def there_and_back() -> None:
        _stage("homepage")
        time.sleep(2)  # of load by what is staged
        with suppress(LabError):
            Lab(NAME).routes.rollback()

    load(topology, there_and_back, seconds=10)


def staged_elsewhere(topology: str) -> None:
    """Stages a revision for a caller that does not ask while load runs."""
    load(topology, lambda: _stage("search"))


def restarted_staged(topology: str) -> None:
    """Stages a revision, and restarts the control plane, while load runs."""

    def stage_and_restart() -> None:
        _stage("homepage")
        Lab(NAME).units.kill("control-plane")
        Lab(NAME).units.start("control-plane")

    load(topology, stage_and_restart, seconds=25, after_s=3)


def calm(topology: str) -> None:
    """Drives load, and nothing else."""
    load(topology, seconds=5)


def long(topology: str) -> None:
    """Drives load for so long that what concerns one request in a hundred is met."""
    load(topology, seconds=20)


def kill(topology: str) -> None:
    """Kills a cluster that has fallbacks while load runs."""
    load(topology, lambda: _inject("kill", "two"))


def limits(topology: str) -> None:
    """Asks for a tenant more often than it may."""
    load(topology, lambda: None, "--context", "tenant=batch", seconds=5)


def pinned(topology: str) -> None:
    """Pins requests to versions."""
    load(
        topology,
        lambda: None,
        "--use-case",
        "Ranking",
        "--context",
        "override=ranker@v1,ranker@v3,ranker@v9",
        seconds=5,
    )


def tears(topology: str) -> None:
    """Sends requests whose header and body name different versions."""
    load(topology, lambda: None, "--tear-every", "10", seconds=5)


def _inject(kind: str, target: str, for_s: float | None = None, **settings: Any) -> None:
    with suppress(LabError):
        Lab(NAME).faults.inject(kind, target, for_s=for_s, **settings)


def errors(topology: str) -> None:
    """Fails half of the requests to a cluster whose use cases retry, do not retry, and fall back."""
    load(topology, lambda: _inject("error", "failing", rate=0.5))


def slow(topology: str) -> None:
    """Slows a cluster whose use case hedges, and whose requests for a tenant are then many in flight."""
    load(topology, lambda: _inject("slow", "slow", ms=100), "--context", "tenant=few,kids", seconds=12)


def slower(topology: str) -> None:
    """Slows a cluster so that a second attempt must start beside each first one."""
    load(topology, lambda: _inject("slow", "slow", ms=800))


def stuck(topology: str) -> None:
    """Slows a cluster beyond the timeout of its use cases."""
    load(topology, lambda: _inject("slow", "failing", ms=4000))


def shared(topology: str) -> None:
    """Asks two gateways for a tenant more often than it may at both together."""
    load(topology, lambda: None, "--context", "tenant=batch", seconds=5)


def gray(topology: str) -> None:
    """Lets one of two replicas fail every request of a use case that ejects such replicas."""
    load(topology, lambda: _inject("error", "gray-a", rate=1))


def all_gray(topology: str) -> None:
    """Lets both replicas of such a use case fail every request."""
    load(topology, lambda: _inject("error", "gray", rate=1))


def full(topology: str) -> None:
    """Slows a cluster so that more requests for it are in flight than its circuit breaker allows."""
    load(topology, lambda: _inject("slow", "full", ms=100))


def away(topology: str) -> None:
    """Kills a cluster until its failover cluster has taken over, and lets it come back."""
    load(topology, lambda: _inject("kill", "three", 6.5), seconds=28, after_s=6)


def restarted(topology: str) -> None:
    """Kills one of two replicas, and starts it again, long before the load is over."""
    load(topology, lambda: _inject("kill", "slow-a", 2), seconds=24, after_s=4)


def recovered(topology: str) -> None:
    """Lets one of two replicas fail every request of a use case that ejects it, for a while."""
    load(topology, lambda: _inject("error", "gray-a", 2, rate=1), seconds=34, after_s=4)


def scale(replicas: int) -> None:
    """Sets the number of replicas of each cluster."""
    for cluster in _CLUSTERS:
        Lab(NAME).units.scale(cluster, replicas)


def frozen(topology: str) -> None:
    """Freezes one of two replicas for longer than it may take to leave it."""
    load(topology, lambda: _inject("pause", "slow-a", 13), seconds=30)


def grown(topology: str) -> None:
    """Gives each cluster a second replica while load runs."""
    load(topology, lambda: scale(2), seconds=26)


def drained(topology: str) -> None:
    """Takes one of two replicas of each cluster away while load runs, and requests take a while."""

    def slow_and_fewer() -> None:
        for cluster in _CLUSTERS:
            _inject("slow", cluster, ms=300)
        scale(1)

    scale(2)
    load(topology, slow_and_fewer, seconds=12)


def several(topology: str) -> None:
    """Drives load at clusters of several replicas, and nothing else."""
    load(topology, seconds=5)


def weighted(topology: str) -> None:
    """Drives load at a cluster one of whose replicas is slower, by the load that both report.

    Between replicas that are alike turns are right: without the fault the drill shows nothing, and so fails.
    """
    Lab(NAME).faults.inject("slow", "slow-a", ms=40)
    load(topology, seconds=16)


def elsewhere(topology: str) -> None:
    """Kills a unit that the topology does not need."""
    load(topology, lambda: _inject("kill", "homepage-sidecar"))


def beside(topology: str) -> None:
    """Drives load while other topologies are up, too, whose units a request could take instead."""
    load(topology)


def rolled(topology: str) -> None:
    """Rolls a version out; its probes are the load."""
    arguments = ("--to", "v2", "--steps", "50,100", "--hold", "2", "--rate", "100", "--force", "--topology", topology)
    lab("roll", "ranker", *arguments, "--name", NAME)


def everyone(topology: str) -> None:
    """Moves a key and changes a config while load runs, in a lab with nodes that its requests do not ask."""
    publish(topology)


def rest(topology: str) -> None:
    """Sends requests to gateways by REST."""
    assert topology == "gateway"
    _python("-m", "tests.mutants.rest", NAME, "6")


def drivers(topology: str) -> None:
    """Shares the load among three drivers."""
    load(topology, lambda: None, "--drivers", "3", seconds=6)


def stepped(topology: str) -> None:
    """Publishes and steps the wall clock forth while load runs, after the lab has come up by another time."""
    set_wall_clock(os.environ, 60)

    def publish_and_step() -> None:
        _publish()
        set_wall_clock(os.environ, 600)

    load(topology, publish_and_step)


def planes(topology: str) -> None:
    """Moves a key and changes a config while load runs, in a lab with two control planes, each with a gateway.

    At first both gateways may have found the one that was there first: they start again, until each has its own.
    """
    lab_up = Lab(NAME)
    addresses = LabState.of(lab_up.folder).plan.control_plane.split(",")

    def follow_different_ones() -> bool:
        for gateway in ("gateway-1", "gateway-2"):
            lab_up.units.kill(gateway)
            lab_up.units.start(gateway)
        time.sleep(_STARTED_S)
        return all(any(each.role == "gateway" for each in _status(address).nodes) for address in addresses)

    eventually("each control plane has a gateway", follow_different_ones, within=_TURNED)
    load(topology, lambda: lab_up.routes.publish(HOME / "moved.routes.yaml"))


def _status(address: str) -> ControlPlaneStatus:
    with AdminClient(address) as admin:
        return admin.status(replicas=False)


def traced(topology: str) -> None:
    """Drives load, and compares the traces of some requests with their records."""
    load(topology, seconds=5)
    _python("-m", "tests.mutants.traces", NAME, topology)


def picked(topology: str) -> None:
    """Drives load at clusters of several replicas, which a plug-in's picker picks."""
    load(topology, seconds=20)


def forged(topology: str) -> None:
    """Drives load whose client forges the headers of picks, which a plug-in's topology lets it do."""
    load(topology, seconds=5)


def manifests(_: str) -> None:
    """Renders Kubernetes' objects anew, and has the suite judge them: no run shows them without a cluster."""
    _python("-m", "tests.plugins.kubernetes.test_manifests")
    _judged_by("tests/plugins/kubernetes/test_manifests.py")


def compose(_: str) -> None:
    """Renders the compose file anew, and has the suite judge it."""
    _python("-m", "lab.runtime.compose")
    _judged_by("tests/runtime/test_compose_file.py")


def _judged_by(tests: str) -> None:
    _python("-m", "pytest", tests, "-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--no-header")


def _python(*arguments: str) -> None:
    done = subprocess.run((sys.executable, *arguments), capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout[-2000:]}{done.stderr[-1000:]}")


def locust(topology: str) -> None:
    """Lets Locust's users drive load."""
    load(topology, lambda: None, "--engine", "locust", seconds=6)


def pages(topology: str) -> None:
    """Asks for pages whose first models are slow, and cancels every fifth."""
    _inject("slow", "ml-cluster-1", ms=400)
    load(topology, lambda: None, "--page", "homepage", "--cancel-every", "5", "--rate", "20")


def pages_failing(topology: str) -> None:
    """Asks for pages of which some calls fail."""
    _inject("error", "ml-cluster-1", rate=0.3)
    load(topology, lambda: None, "--page", "homepage", "--rate", "20")


def pages_edge(topology: str) -> None:
    """Asks for pages through the edge, which the driver first attacks."""
    load(topology, lambda: None, "--page", "homepage", "--rate", "10", seconds=5)


def pages_retried(topology: str) -> None:
    """Asks for pages whose innermost calls fail, each of which the table allows to be made again."""
    for cluster in ("ml-cluster-3", "ml-cluster-4"):
        _inject("error", cluster, rate=1)
    more = ("--page", "homepage", "--rate", "4", "--page-timeout-ms", "9000", "--cancel-every", "0")
    load(topology, lambda: None, *more, seconds=5)


_CHAT = ("--turns", "4", "--users", "12", "--loras", "2", "--streams", "50", "--context", "tenant=a,b")


def chat(topology: str) -> None:
    """Drives conversations, whose replicas are picked by their prompts."""
    load(topology, lambda: None, *_CHAT)


def chat_tokens(topology: str) -> None:
    """Drives conversations, whose replicas are picked by the tokens in flight."""
    load(topology, lambda: None, *_CHAT)


def chat_session(topology: str) -> None:
    """Drives conversations that stay at their replica."""
    load(topology, lambda: None, *_CHAT)


def chat_ring(topology: str) -> None:
    """Drives conversations whose replicas a ring gives, with bounded load."""
    load(topology, lambda: None, *_CHAT)


def chat_hashed(topology: str) -> None:
    """Drives conversations whose replicas the ring of an Envoy or a gRPC client gives."""
    load(topology, lambda: None, *_CHAT)


def chat_routed(topology: str) -> None:
    """Drives conversations through a third-party router."""
    load(topology, lambda: None, *_CHAT)


def chat_routed_errors(topology: str) -> None:
    """Drives conversations through a third-party router, and fails some of the answers."""
    _inject("error", "ml-cluster-1", rate=0.2)
    load(topology, lambda: None, *_CHAT)


def chat_two(topology: str) -> None:
    """Drives conversations, whose replicas are picked among two."""
    load(topology, lambda: None, *_CHAT)


def chat_trace(topology: str) -> None:
    """Drives the prompts of a trace, whose replicas are picked by the tokens in flight."""
    trace = str(CHECKOUT / "docs" / "examples" / "conversation.jsonl")
    load(topology, lambda: None, *_CHAT[-4:], "--prompts", trace, "--rate", "20", seconds=6)


def chat_drained(topology: str) -> None:
    """Takes a replica away while it has conversations."""
    load(topology, lambda: Lab(NAME).units.scale("ml-cluster-1", 3), *_CHAT, seconds=16, after_s=4)


def chat_full(topology: str) -> None:
    """Drives conversations at replicas that cannot serve them all, and have short queues."""
    load(topology, lambda: None, *_CHAT, seconds=5)


def chat_loras(topology: str) -> None:
    """Drives conversations with more adapters than a replica holds, whose replicas are picked by these."""
    more = ("--loras", "24", "--system-prompts", "24", "--rate", "40")
    load(topology, lambda: None, *_CHAT, *more, seconds=6)


def chat_stale(topology: str) -> None:
    """Freezes a replica while it has conversations, so that what is known of its load grows old."""
    load(topology, lambda: _inject("pause", "ml-cluster-1-a", 2), *_CHAT, after_s=2)


def chat_reserved(topology: str) -> None:
    """Drives conversations, whose replicas are picked by what is reserved there."""
    load(topology, lambda: None, *_CHAT, seconds=5)


def chat_slo(topology: str) -> None:
    """Drives conversations, whose replicas are picked by what they are predicted to take."""
    load(topology, lambda: None, *_CHAT)


def chat_exact(topology: str) -> None:
    """Drives conversations, whose replicas are picked by their KV events, and which do not all fit into the caches."""
    load(topology, lambda: None, *_CHAT, "--rate", "40", seconds=6)


def chat_queues(topology: str) -> None:
    """Drives conversations of two priorities and two tenants, more than replicas have slots for."""
    more = ("--turns", "4", "--users", "21", "--streams", "50", "--context", "tenant=ads*4,kids")
    load(topology, lambda: None, *more, seconds=6)


def chat_prefill(topology: str) -> None:
    """Drives conversations with models of which some replicas prefill for the others."""
    load(topology, lambda: None, *_CHAT, "--rate", "40", seconds=6)


def chat_body(topology: str) -> None:
    """Drives conversations, whose replicas an endpoint picker picks by their prompts."""
    load(topology, lambda: None, *_CHAT, "--rate", "40", seconds=6)


def chat_mesh(topology: str) -> None:
    """Drives conversations, whose replicas the caller picks by their prompts."""
    load(topology, lambda: None, *_CHAT, "--rate", "40", seconds=6)


def chat_body_prefill(topology: str) -> None:
    """Drives conversations, whose replicas to prefill and to decode an endpoint picker picks."""
    load(topology, lambda: None, *_CHAT, "--rate", "40", seconds=6)


def links(topology: str) -> None:
    """Drives load from one zone, which needs models in its own and in another."""
    load(topology, seconds=6)


def sharded(topology: str) -> None:
    """Drives load at versions whose shards users and tenants choose."""
    load(topology, lambda: None, "--context", "tenant=ads,kids", seconds=5)


DRILLS: dict[str, Callable[[str], None]] = {
    each.__name__: each
    for each in (
        publish,
        rollback,
        staged,
        staged_elsewhere,
        restarted_staged,
        calm,
        long,
        kill,
        limits,
        pinned,
        tears,
        errors,
        slow,
        slower,
        stuck,
        shared,
        gray,
        all_gray,
        full,
        away,
        restarted,
        recovered,
        frozen,
        grown,
        drained,
        several,
        weighted,
        elsewhere,
        beside,
        rolled,
        everyone,
        rest,
        drivers,
        planes,
        stepped,
        traced,
        picked,
        forged,
        manifests,
        compose,
        locust,
        pages,
        pages_failing,
        pages_retried,
        pages_edge,
        chat,
        chat_tokens,
        chat_session,
        chat_ring,
        chat_hashed,
        chat_routed,
        chat_routed_errors,
        chat_two,
        chat_trace,
        chat_drained,
        chat_full,
        chat_loras,
        chat_stale,
        chat_reserved,
        chat_slo,
        chat_exact,
        chat_queues,
        chat_prefill,
        chat_body,
        chat_mesh,
        chat_body_prefill,
        links,
        sharded,
    )
}
_OTHERS = {
    "elsewhere": ("mesh",),
    "beside": ("mesh", "gateway", "gateway-header", "proxyless"),
    "everyone": ("mesh", "gateway"),
}
_SPECS = {
    "callers.toml": {"everyone", "staged", "staged_elsewhere", "restarted_staged"},
    "planes.toml": {"planes"},
    "traces.toml": {"traced"},
    "policy.toml": {
        *("errors", "slow", "slower", "stuck", "shared", "several", "frozen", "restarted", "picked", "weighted"),
    },
    "replicas.toml": {"gray", "all_gray", "full", "recovered"},
    "links.toml": {"links"},
    "shards.toml": {"sharded"},
    "../../lab/specs/pages.toml": {"pages", "pages_failing", "pages_retried", "pages_edge"},
    "../../lab/specs/tokens.toml": {
        *("chat", "chat_tokens", "chat_session", "chat_ring", "chat_two", "chat_trace", "chat_drained", "chat_slo"),
        *("chat_hashed", "chat_routed", "chat_routed_errors"),
    },
    "full-queues.toml": {"chat_full"},
    "adapters.toml": {"chat_loras"},
    "stale.toml": {"chat_stale"},
    "reserved.toml": {"chat_reserved"},
    "kv-events.toml": {"chat_exact"},
    "queues.toml": {"chat_queues"},
    "prefill.toml": {"chat_prefill"},
    "picker-body.toml": {"chat_body", "chat_mesh"},
    "picker-prefill.toml": {"chat_body_prefill"},
}


PLUGINS = {
    "picked": ("--plugin", str(CHECKOUT / "docs" / "examples" / "own_picker.py")),
    "forged": ("--plugin", str(HOME / "forging.py")),
}
"""Options of drills that need a plug-in, as do the checks of their runs."""
_OPTIONS = {
    "picked": (*PLUGINS["picked"], "--picker", "mostly-one"),
    "forged": PLUGINS["forged"],
    "weighted": ("--picker", "orca-weights"),
    "pages_edge": ("--role", "edge"),
    "chat": ("--picker", "prefix"),
    "chat_tokens": ("--picker", "uncached-tokens"),
    "chat_session": ("--picker", "session"),
    "chat_ring": ("--picker", "ring-hash"),
    "chat_hashed": ("--picker", "session-ring"),
    "chat_two": ("--picker", "power-of-two"),
    "chat_trace": ("--picker", "uncached-tokens"),
    "chat_drained": ("--picker", "queue-depth"),
    "chat_full": ("--picker", "queue-depth"),
    "chat_loras": ("--picker", "lora"),
    "chat_stale": ("--picker", "queue-depth"),
    "chat_reserved": ("--picker", "queue-depth"),
    "chat_slo": ("--picker", "slo"),
    "chat_exact": ("--picker", "prefix-exact"),
    "chat_queues": ("--picker", "priority-bands"),
    "chat_body": ("--picker", "prefix"),
    "chat_mesh": ("--picker", "prefix"),
}
_STEPPED = {"stepped"}
"""Drills whose lab and commands read a wall clock that is not the machine's."""
_OFFLINE = {"manifests", "compose"}
"""Drills without a lab, whose bugs the suite must notice."""


def main() -> None:
    """Runs one drill, and takes the lab down also after an error."""
    drill, topology = sys.argv[1:]
    if drill in _OFFLINE:
        DRILLS[drill](topology)
        return
    scratch = tempfile.TemporaryDirectory()
    if drill in _STEPPED:
        os.environ.update(wall_clock(Path(scratch.name)))
    try:
        spec = str(HOME / next((name for name, drills in _SPECS.items() if drill in drills), "lab.toml"))
        topologies = ",".join(dict.fromkeys((topology, *_OTHERS.get(drill, ()))))
        lab(
            "up",
            "--name",
            NAME,
            "--runtime",
            "process",
            "--spec",
            spec,
            "--topology",
            topologies,
            *_OPTIONS.get(drill, ()),
        )
        DRILLS[drill](topology)
    finally:
        lab("down", "--name", NAME, check=False)
        scratch.cleanup()
    runs = [each for each in sorted((CHECKOUT / "runs" / NAME).iterdir()) if each.is_dir() and not each.is_symlink()]
    if not runs:
        sys.exit("the drill has left no run")
    for run in runs:
        for each in runs_in(run):
            print(each)  # noqa: T201 (the drill's answer)


if __name__ == "__main__":
    main()
