"""Resolvers are asked who asked them, and which units a run's requests may pass is known."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from lab.client import Endpoints
from lab.history.questions import Question
from lab.roles import Port, Unit
from lab.runs.folder import RunFolder
from lab.runs.unit_evidence import questions_at, units_on_path
from lab.transport import listen, new_server
from models.proto.control.v1 import resolver_pb2_grpc
from services.resolver.journal import Journal
from tests.load.builders import load_plan

NOWHERE = Port("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1")


async def test_questions_are_kept_with_the_id_of_their_request(tmp_path: Path) -> None:
    journal, (server, _) = Journal(kept=2), new_server()
    resolver_pb2_grpc.add_ResolverJournalServicer_to_server(journal, server)
    address = f"127.0.0.1:{listen(server, '127.0.0.1:0')}"
    await server.start()
    units = [Unit("asked", "resolver", (), Port(address, address, address)), Unit("gone", "resolver", (), NOWHERE)]

    def answer() -> tuple[list[Question], dict[str, bool]]:
        run = RunFolder(tmp_path)
        run.questions = questions_at(units, since_ns=0)
        kept = RunFolder(tmp_path).questions
        assert kept
        return list(kept.asked), {name: since is not None for name, since in kept.known_from_ns.items()}

    try:
        assert await asyncio.to_thread(answer) == ([], {"asked": True, "gone": False})
        for headers in ([("x-request-id", "r1")], [("user-agent", "x"), ("x-request-id", "r2")], []):
            journal.asked(headers)
        asked, _ = await asyncio.to_thread(answer)
        assert [(each.request_id, each.resolver) for each in asked] == [("r2", "asked"), ("", "asked")]
        known = await asyncio.to_thread(questions_at, units, since_ns=0)
        assert known.known_from_ns["asked"] == asked[0].asked_ns  # older ones were dropped
        assert (await asyncio.to_thread(questions_at, units, since_ns=asked[1].asked_ns)).asked == asked[1:]
    finally:
        await server.stop(0)


def unit(name: str, role: str, pod: str = "", port: int = 1) -> Unit:
    address = f"127.0.0.1:{port}"
    return Unit(name, role, (), Port(address, address, address), pod=pod or name)


UNITS = [
    *(unit(f"gateway-{number}", "gateway", port=number) for number in (1, 2)),
    *(
        unit(f"{caller}-{role}", role, pod=caller, port=8)
        for caller in ("homepage", "search")
        for role in ("resolver", "sidecar")
    ),
    unit("central-envoy", "central-envoy"),
    replace(unit("west-to-gateway-2", "link"), relay=Port("127.0.0.1:5", "127.0.0.1:5", "127.0.0.1:5")),
]


@pytest.mark.parametrize(
    ("topology", "addresses", "expected"),
    [
        ("gateway", {"gateway": ("127.0.0.1:1", "127.0.0.1:2")}, {"gateway": ["gateway-1", "gateway-2"]}),
        ("gateway", {"gateway": ("127.0.0.1:2",)}, {"gateway": ["gateway-2"]}),
        ("gateway", {"gateway": ("127.0.0.1:1", "127.0.0.1:5")}, {"gateway": ["gateway-1", "gateway-2"]}),  # a link
        ("gateway", {"gateway": ("127.0.0.1:5",)}, {"gateway": ["gateway-2"]}),
        ("gateway", {"gateway": ("127.0.0.1:9",)}, {"gateway": ["gateway-1", "gateway-2"]}),  # a relay
        ("mesh", {}, {"resolver": ["homepage-resolver"], "sidecar": ["homepage-sidecar"]}),
        ("direct", {}, {}),
    ],
)
def test_requests_may_pass_the_units_at_the_plans_addresses(
    topology: str, addresses: dict[str, tuple[str, ...]], expected: dict[str, list[str]], tmp_path: Path
) -> None:
    plan = load_plan(tmp_path, topology=topology, endpoints=Endpoints(addresses), caller="homepage")

    assert units_on_path(UNITS, plan) == expected
