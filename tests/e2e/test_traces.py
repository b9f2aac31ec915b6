"""A request's trace passes through every unit on its path, in every topology."""

from __future__ import annotations

import json
import re
import secrets
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from lab.client.call import CallOutcome
from lab.client.traces import FIND, find_spans, in_order
from lab.errors import InputError
from lab.history import read_parquet
from lab.identity import Identity
from lab.identity.authority import Authority
from lab.lab import Lab
from lab.plain_text import is_plain
from lab.roles import COLLECTOR
from lab.runtime.state import LabState
from lab.topologies import TOPOLOGIES
from lab.transport import Security, open_blocking_channel
from lab.transport.security import MTLS
from lab.transport.trace_settings import MAX_ATTRIBUTE_CHARACTERS, VARIABLE
from lab.waiting import eventually
from models.proto.caller.v1 import caller_pb2, caller_pb2_grpc
from tests.lab_command import json_of, refusal, run_lab
from tests.labs import address_of, ask, unique_lab, write_spec
from tests.ports import free_port
from tests.rest_client import asking, post

TOPOLOGIES_TRACED = [each.name for each in TOPOLOGIES.values() if each.in_default_lab]
WITHIN = timedelta(seconds=20)

CALL = ["homepage server caller.v1.Caller/Call", ". homepage internal call ContinueWatchingRanking"]
RESOLVE = [
    ". . homepage client control.v1.Resolver/Resolve",
    ". . . homepage-resolver server control.v1.Resolver/Resolve",
]
SEND = [". . homepage client ranking.v1.Ranking/Rank"]
MODEL_IS_CHILD = [". . . ml-cluster-1 server ranking.v1.Ranking/Rank"]


def by(service: str) -> list[str]:
    """The spans of a unit between caller and model, and that of the model."""
    return [
        f". . . {service} server ranking.v1.Ranking/Rank",
        f". . . . {service} client ranking.v1.Ranking/Rank",
        ". . . . . ml-cluster-1 server ranking.v1.Ranking/Rank",
    ]


# Of the first request: later ones have a lease and do not ask the resolver.
TREES = {
    "direct": [*CALL, *SEND, *MODEL_IS_CHILD],
    "gateway": [*CALL, *SEND, *by("gateway")],
    "gateway-passthrough": [*CALL, *SEND, *by("gateway")],
    "gateway-header": [*CALL, *RESOLVE, *SEND, *by("central-envoy")],
    "mesh": [*CALL, *RESOLVE, *SEND, *by("homepage-sidecar")],
    "mesh-unleased": [*CALL, *RESOLVE, *SEND, *by("homepage-sidecar")],
    "proxyless": [*CALL, *RESOLVE, *SEND, *MODEL_IS_CHILD],
}


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, dict[str, CallOutcome]]]:
    """A lab that traces every request, and the first request by each topology."""
    folder = tmp_path_factory.mktemp("traced-lab")
    lab = unique_lab(folder)
    try:
        options: Any = {
            "traces": 1.0,
            "log_format": "json",
            "log_requests": True,
            "metrics": True,
            "runtime": "process",
        }
        calls = lab.up(spec=write_spec(folder), topologies=TOPOLOGIES_TRACED, **options)
        yield lab, {call.topology: call for call in calls}
    finally:
        lab.down()


def tree(lab: Lab, name: str) -> list[str]:
    """A line for each span of a trace, parents before their parts; empty if there is no such trace yet."""
    try:
        spans = lab.trace(name)
    except InputError:
        return []
    return [f"{'. ' * depth}{span.service} {span.kind} {span.name}" for depth, span in in_order(spans)]


def await_tree(lab: Lab, name: str, expected: list[str]) -> None:
    eventually("the trace is whole", lambda: tree(lab, name), within=WITHIN, until=lambda seen: seen == expected)


@pytest.mark.parametrize("topology", TOPOLOGIES_TRACED)
def test_one_trace_goes_through_all_units_of_a_topology(
    traced: tuple[Lab, dict[str, CallOutcome]], topology: str
) -> None:
    lab, calls = traced

    await_tree(lab, calls[topology].request_id, TREES[topology])

    spans = lab.trace(calls[topology].request_id)
    assert {span.attributes["lab.request_id"] for span in spans} == {calls[topology].request_id}
    knowing = {span.service for span in spans if span.attributes.get("lab.routing_key") == "cw-ranker.v1"}
    assert knowing == {span.service for span in spans}
    model = spans[-1]
    assert (model.service, model.unit) == ("ml-cluster-1", "ml-cluster-1-a")
    assert {
        name: model.attributes[name]
        for name in ("rpc.system.name", "rpc.method", "rpc.response.status_code", "lab.use_case", "lab.revision")
    } == {
        "rpc.system.name": "grpc",
        "rpc.method": "ranking.v1.Ranking/Rank",
        "rpc.response.status_code": "OK",
        "lab.use_case": "ContinueWatchingRanking",
        "lab.revision": 1,
    }


def test_the_command_draws_the_tree(traced: tuple[Lab, dict[str, CallOutcome]]) -> None:
    lab, calls = traced
    request_id = calls["mesh"].request_id
    await_tree(lab, request_id, TREES["mesh"])

    drawn = run_lab(lab, "trace", request_id).stdout
    document = json_of(run_lab(lab, "trace", request_id, "--json"))

    units = [line.split()[0] for line in drawn.splitlines()[1 : 1 + len(TREES["mesh"])]]
    assert units == [*["homepage"] * 3, "homepage-resolver", "homepage", *["homepage-sidecar"] * 2, "ml-cluster-1-a"]
    assert f"trace {document['trace_id']}: 8 spans" in drawn
    assert len(document["spans"]) == len(TREES["mesh"])
    assert json_of(run_lab(lab, "trace", document["trace_id"], "--json")) == document


@pytest.mark.parametrize(("flags", "is_traced"), [("01", True), ("00", False)], ids=["sampled", "not sampled"])
def test_a_parent_from_outside_is_obeyed(
    traced: tuple[Lab, dict[str, CallOutcome]], flags: str, *, is_traced: bool
) -> None:
    lab, _ = traced
    trace_id, parent_id = secrets.token_hex(16), secrets.token_hex(8)

    answer = call_with_parent(lab, f"00-{trace_id}-{parent_id}-{flags}")

    if is_traced:
        await_tree(lab, answer.request_id, TREES["mesh-unleased"])
        root = lab.trace(trace_id)[0]
        assert (root.trace_id, root.parent_id) == (trace_id, parent_id)
    else:
        later = ask(lab, "mesh-unleased").request_id
        await_tree(lab, later, TREES["mesh-unleased"])
        line = refusal(run_lab(lab, "trace", answer.request_id))
        assert "was not sampled" in line


def call_with_parent(lab: Lab, traceparent: str, use_case: str = "ContinueWatchingRanking") -> caller_pb2.CallResult:
    request = caller_pb2.CallRequest(use_case=use_case, topology="mesh-unleased")
    with open_blocking_channel(address_of(lab, "homepage")) as channel:
        call = caller_pb2_grpc.CallerStub(channel).Call
        return call(request, metadata=(("traceparent", traceparent),), timeout=10)


def test_a_failure_is_seen_where_it_happened(traced: tuple[Lab, dict[str, CallOutcome]]) -> None:
    lab, _ = traced
    trace_id = secrets.token_hex(16)

    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        call_with_parent(lab, f"00-{trace_id}-{'1' * 16}-01", "NoSuchThing")

    expected = [CALL[0], ". homepage internal call NoSuchThing", *RESOLVE]
    await_tree(lab, trace_id, expected)
    spans = lab.trace(trace_id)
    assert [span.attributes.get("error.type") for span in spans] == [None, "NOT_FOUND", "NOT_FOUND", None]
    assert [span.error for span in spans] == [False, True, True, False]


def test_all_units_log_lines_of_json_with_the_same_keys(traced: tuple[Lab, dict[str, CallOutcome]]) -> None:
    lab, _ = traced
    logs = {unit.name: lab.folder / "units" / unit.name / "log" for unit in lab.status().units}

    lines = {name: [json.loads(line) for line in file.read_text().splitlines()] for name, file in logs.items()}

    assert {name for name, its in lines.items() if its} >= {"control-plane", "homepage", "homepage-sidecar", COLLECTOR}
    for name, its in lines.items():
        for line in its:
            assert {"time", "level", "logger", "message"} <= set(line)
            assert line["unit"] == name
            assert datetime.fromisoformat(line["time"]).tzinfo is not None
            assert line["level"] in {"info", "warning", "error"}


def test_lines_about_a_request_have_the_id_of_its_trace(traced: tuple[Lab, dict[str, CallOutcome]]) -> None:
    lab, calls = traced
    request_id = calls["mesh"].request_id

    found = {line.role: line.fields["trace_id"] for line in lab.logs(request_id)}

    trace_id = json_of(run_lab(lab, "trace", request_id, "--json"))["trace_id"]
    assert found == dict.fromkeys(("caller", "resolver", "sidecar", "model"), trace_id)


def test_load_is_traced_by_the_driver(traced: tuple[Lab, dict[str, CallOutcome]]) -> None:
    lab, _ = traced

    document = json_of(
        run_lab(lab, "load", "--topology", "gateway", "--rate", 5, "--duration", 1, "--caller", "homepage", "--json")
    )

    request_id = read_parquet(Path(document["run_dir"]) / "history.parquet")[0].request_id
    await_tree(lab, request_id, [line[2:] for line in TREES["gateway"][1:]])


def test_every_exemplar_of_every_unit_names_a_trace_that_the_collector_has(
    traced: tuple[Lab, dict[str, CallOutcome]],
) -> None:
    lab, calls = traced
    await_tree(lab, calls["mesh"].request_id, TREES["mesh"])
    targets = {each.labels["role"]: each.url for each in lab.endpoints().metrics}

    named = {role: exemplars(targets[role]) for role in ("caller", "gateway", "resolver", "model")}

    assert [role for role, found in named.items() if not found] == []
    for trace_id in set().union(*named.values()):
        eventually(f"{trace_id} is kept", partial(tree, lab, trace_id), within=WITHIN)


def exemplars(url: str) -> set[str]:
    """The ids of the traces that a unit's metrics name."""
    request = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text;version=1.0.0"})  # noqa: S310 (of the lab)
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 (see above)
        return set(re.findall(r' # {.*trace_id="(\w+)"', answer.read().decode()))


def test_a_request_by_rest_begins_a_trace(traced: tuple[Lab, dict[str, CallOutcome]]) -> None:
    lab, _ = traced
    trace_id = secrets.token_hex(16)
    urls = lab.endpoints().rest
    by_gateway = f"{urls['gateway-1']}/v1/use-cases/ContinueWatchingRanking:call"
    by_model = f"{urls['ml-cluster-1-a']}/v1/ranking:rank"

    status, _ = post(lab, by_gateway, identified("by-rest"))
    post(lab, by_model, asking(), x_routing_key="cw-ranker.v1", traceparent=f"00-{trace_id}-{'1' * 16}-01")
    refused, _ = post(lab, by_gateway.replace("Ranking:", "Nothing:"), identified("refused-by-rest"))

    assert (status, refused) == (200, 404)
    await_tree(
        lab,
        "by-rest",
        [
            "gateway server ranking.v1.Ranking/Rank",
            ". gateway client ranking.v1.Ranking/Rank",
            ". . ml-cluster-1 server ranking.v1.Ranking/Rank",
        ],
    )
    await_tree(lab, trace_id, ["ml-cluster-1 server ranking.v1.Ranking/Rank"])
    await_tree(lab, "refused-by-rest", ["gateway server ranking.v1.Ranking/Rank"])
    assert lab.trace("refused-by-rest")[0].attributes["rpc.response.status_code"] == "NOT_FOUND"


def identified(request_id: str) -> dict[str, Any]:
    """The body of a request by REST."""
    body = asking()
    return {**body, "envelope": {**body["envelope"], "requestId": request_id}}


def export_to(channel: grpc.Channel, spans: ExportTraceServiceRequest) -> None:
    export: Any = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
    export(spans.SerializeToString(), timeout=10)


def test_what_is_kept_is_private_and_cannot_steer_a_terminal(traced: tuple[Lab, dict[str, CallOutcome]]) -> None:
    lab, _ = traced
    hostile = "\x1b[31mred\r\n\u202e" + "x" * 2_000
    trace_id = secrets.token_bytes(16)
    now = time.time_ns()
    span = trace_pb2.Span(
        trace_id=trace_id,
        span_id=secrets.token_bytes(8),
        name=hostile,
        start_time_unix_nano=now,
        end_time_unix_nano=now + 1,
        attributes=[KeyValue(key=hostile, value=AnyValue(string_value=hostile))] * 100,
    )
    resource = Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value=hostile))])
    scope = trace_pb2.ScopeSpans(spans=[span])
    export = ExportTraceServiceRequest(resource_spans=[trace_pb2.ResourceSpans(resource=resource, scope_spans=[scope])])
    with open_blocking_channel(address_of(lab, COLLECTOR)) as channel:
        export_to(channel, export)

    shown = run_lab(lab, "trace", trace_id.hex())

    assert shown.returncode == 0
    assert is_plain(shown.stdout.replace("\n", ""))
    assert "\\x1b[31mred" in shown.stdout
    [kept] = lab.trace(trace_id.hex())
    assert max(map(len, (kept.name, kept.service, *kept.attributes))) <= MAX_ATTRIBUTE_CHARACTERS
    file = lab.folder / "units" / COLLECTOR / "spans.sqlite"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_only_units_may_send_spans_and_only_the_operator_may_read(traced: tuple[Lab, dict[str, CallOutcome]]) -> None:
    lab, _ = traced
    address, units = address_of(lab, COLLECTOR), lab.folder / "pki" / "units"
    homepage = Security(MTLS, str(units / "homepage"))

    with open_blocking_channel(address, homepage) as channel:
        export_to(channel, ExportTraceServiceRequest())
        find: Any = channel.unary_unary(FIND)
        with pytest.raises(grpc.RpcError, match="for the operator only"):
            find(b"any", timeout=10)
    with (
        open_blocking_channel(address, Security(MTLS, str(units / "control-plane"))) as channel,
        pytest.raises(grpc.RpcError, match="not for spiffe"),
    ):
        export_to(channel, ExportTraceServiceRequest())


def test_an_unknown_id_and_a_lab_without_traces_are_refused(
    traced: tuple[Lab, dict[str, CallOutcome]], mini_lab: Lab
) -> None:
    lab, _ = traced

    assert "knows no such request" in refusal(run_lab(lab, "trace", "no-such-request"))
    assert "lab up --traces 1" in refusal(run_lab(mini_lab, "trace", "no-such-request"))
    assert not any(VARIABLE in unit.environment for unit in LabState.of(mini_lab.folder).plan.units)


def test_spans_go_to_a_receiver_of_the_users_in_place_of_the_collector(
    own_lab: Lab, mini_spec: Path, tmp_path: Path
) -> None:
    # The collector as anybody's receiver: in plaintext, and no part of the lab.
    address = f"127.0.0.1:{free_port()}"
    command = ["-m", "services.collector", "--listen", address, "--spans", str(tmp_path / "spans")]
    with subprocess.Popen([sys.executable, *command]) as receiver:
        try:
            own_lab.up(spec=mini_spec, runtime="process", otlp=address)
            request_id = ask(own_lab, "gateway").request_id

            names = eventually(
                "the spans have arrived",
                lambda: [span.service for _, span in in_order(find_spans(address, request_id))],
                within=WITHIN,
                until=lambda found: len(found) == len(TREES["gateway"]),
            )
        finally:
            receiver.kill()

    assert names == [*["homepage"] * 3, *["gateway"] * 2, "ml-cluster-1"]
    assert COLLECTOR not in {unit.name for unit in own_lab.status().units}
    assert f"sends its traces to {address}" in refusal(run_lab(own_lab, "trace", request_id))


EXPORT = "opentelemetry.proto.collector.trace.v1.TraceService"


def test_spans_go_to_a_receiver_that_proves_its_name_by_tls(own_lab: Lab, mini_spec: Path, tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "pki", lifetime_s=3600)
    authority.issue("receiver", Identity("somebody", "receiver"), ["127.0.0.1"])
    folder = authority.folder / "units" / "receiver" / "current"
    certificate = [((folder / "key.pem").read_bytes(), (folder / "cert.pem").read_bytes())]
    seen: set[str] = set()

    def export(request: bytes, context: Any) -> bytes:
        del context
        for each in ExportTraceServiceRequest.FromString(request).resource_spans:
            seen.update(one.value.string_value for one in each.resource.attributes if one.key == "service.name")
        return b""

    server = grpc.server(ThreadPoolExecutor(2))
    handlers: Any = {"Export": grpc.unary_unary_rpc_method_handler(export)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(EXPORT, handlers),))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(certificate))
    server.start()
    try:
        address, authorities = f"https://127.0.0.1:{port}", folder / "ca.pem"
        own_lab.up(spec=mini_spec, runtime="process", otlp=address, otlp_ca=authorities)
        ask(own_lab, "mesh")

        services = {"homepage", "homepage-resolver", "homepage-sidecar", "ml-cluster-1"}
        eventually("all services' spans arrived", lambda: set(seen), within=WITHIN, until=services.issubset)
    finally:
        server.stop(0)
