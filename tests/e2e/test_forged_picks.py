"""Headers in which a client names replicas go no further than a proxy that does not pick by them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from lab.history.arrivals import Arrival
from lab.lab import Lab
from lab.roles import MODEL
from lab.routing.headers import DESTINATION, FORGEABLE
from lab.runs.unit_evidence import arrivals_at
from lab.runtime.state import LabState
from lab.waiting import eventually
from models.proto.ranking.v1 import ranking_pb2
from tests.labs import TWO_REPLICAS, lab_up, write_spec
from tests.proxies import GATEWAYS, need, that_run_here

OF_THE_LAB = {"mesh": "sidecar", "mesh-picker": "picker-sidecar", "gateway-header": "central-envoy"}
ROLES = OF_THE_LAB | {"gateway": "gateway"} | GATEWAYS
SPEC = 'topologies = {}\nroutes = "routes.yaml"\n[callers.homepage]\n'
KEY, REQUESTS = "cw-ranker.v1", 6


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("forged-picks")
    spec = write_spec(folder, SPEC.format(that_run_here(ROLES)), TWO_REPLICAS)
    # In plaintext a client can send whatever headers it likes.
    with lab_up(folder, spec=spec, security="plaintext") as lab:
        yield lab


@pytest.mark.parametrize("topology", ROLES)
def test_a_proxy_that_goes_by_no_pick_passes_none_on(lab: Lab, topology: str) -> None:
    need(topology)
    units = [each for each in LabState.of(lab.folder).plan.units if each.role == MODEL]
    headers = {"x-routing-key": KEY} | dict.fromkeys(FORGEABLE, units[0].address)
    if topology in OF_THE_LAB:
        headers["x-shadow-key"] = KEY
    copies = REQUESTS if topology in OF_THE_LAB else 0
    since_ns = time.time_ns()
    request = ranking_pb2.RankRequest(titles=[ranking_pb2.Title(id="t1")])
    if topology == "gateway":  # it decides by the envelope
        request.envelope.use_case, request.envelope.context.caller = "ContinueWatchingRanking", "homepage"
    _send(lab.endpoints().clients["homepage"].address_of(ROLES[topology]), request, headers)

    def arrived() -> list[Arrival]:
        return list(arrivals_at(units, (), since_ns=since_ns, file_of=lambda _: Path("none")).requests)

    eventually("all requests and copies", lambda: len(arrived()) == REQUESTS + copies, within=timedelta(seconds=10))
    passed_on = Counter(
        (each.is_copy, name) for each in arrived() for name in each.headers.split() if name in FORGEABLE
    )
    assert passed_on == ({(False, DESTINATION): REQUESTS} if topology == "mesh-picker" else {})


def _send(address: str, request: ranking_pb2.RankRequest, headers: dict[str, str]) -> None:
    with grpc.insecure_channel(address) as channel:
        rank: Any = channel.unary_unary("/ranking.v1.Ranking/Rank", request_serializer=bytes)
        for _ in range(REQUESTS):
            rank(request.SerializeToString(), metadata=(*headers.items(),), timeout=10)
