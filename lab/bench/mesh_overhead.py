"""What the mesh adds over a direct call, as a multiple of what a bare static Envoy adds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from lab.bench.pictures import chart_of_medians
from lab.bench.result import BenchResult, Claim
from lab.client import DirectTarget, Endpoints
from lab.measure.compare import added_ratio, interleave
from lab.report.palette import topology_style
from lab.runs import LoadOptions

if TYPE_CHECKING:
    from lab.bench.setting import Setting

NAME = "mesh-overhead"

RATE_RPS = 500.0
SECONDS = 4.0
PAYLOAD_BYTES = 400
BOUND = 1.5
_USE_CASE, _CLUSTER, _MODEL, _VERSION = "UpNext", "ml-cluster-5", "up-next", "v1"
_TEMPLATE = Path(__file__).parent.parent.parent / "envoy" / "static.yaml"
_WARM_UP_S = 1.0
_STYLES = {"direct": topology_style("direct"), "static-envoy": "run-5", "mesh": topology_style("mesh")}


def run(setting: Setting, rounds: int) -> BenchResult:
    """Measures ``direct``, ``static-envoy`` and ``mesh`` once a round."""
    options = {
        arm: LoadOptions(
            topology=topology,
            caller="playback",
            use_cases=(_USE_CASE,),
            rate=RATE_RPS,
            duration_s=SECONDS,
            payload_bytes=PAYLOAD_BYTES,
            contexts={},
            endpoints=endpoints,
        )
        for arm, topology, endpoints in (
            ("direct", "direct", None),
            ("static-envoy", "direct", Endpoints(direct={_USE_CASE: _through_static_envoy(setting)})),
            ("mesh", "mesh", None),
        )
    }
    for each in options.values():
        setting.load(replace(each, duration_s=_WARM_UP_S))
    p50: dict[str, list[float]] = {arm: [] for arm in options}
    for number, order in enumerate(interleave(list(options), rounds, seed=0), start=1):
        for arm in order:
            setting.say(f"round {number} of {rounds}: {arm}")
            p50[arm].append(setting.load(options[arm]).summary.p50_ms)
    figure = added_ratio(p50["mesh"], p50["static-envoy"], p50["direct"], seed=0)
    text = f"(mesh − direct) / (static Envoy − direct), p50, {PAYLOAD_BYTES} B, {RATE_RPS:g} rps"
    return BenchResult(
        name=NAME,
        unit="ms (p50)",
        arms=p50,
        claims=[Claim(text=text, figure=figure, at_most=BOUND)],
        charts=[chart_of_medians(NAME, "p50, ms", p50, styles=_STYLES)],
        notes=[f"n = {rounds} rounds × {RATE_RPS * SECONDS:g} requests an arm, order drawn anew each round"],
    )


def _through_static_envoy(setting: Setting) -> DirectTarget:
    name = "static-envoy"
    address = setting.address(name)
    host, port = address.rsplit(":", 1)
    replicas = [each.rsplit(":", 1) for each in setting.replicas(_CLUSTER)]
    endpoints = ", ".join(
        f"{{endpoint: {{address: {{socket_address: {{address: {its_host}, port_value: {its_port}}}}}}}}}"
        for its_host, its_port in replicas
    )
    config = Template(_TEMPLATE.read_text()).substitute(host=host, port=port, endpoints=endpoints)
    argv = ("envoy", "--config-path", setting.path(name, "envoy.yaml"), "--concurrency", "1")
    setting.start(name, (*argv, "--disable-hot-restart", "--log-level", "warn"), address, {"envoy.yaml": config})
    return DirectTarget(_MODEL, _VERSION, (address,))
