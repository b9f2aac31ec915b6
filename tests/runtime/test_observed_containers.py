"""Units in containers count what they serve and trace it, as processes do."""

from __future__ import annotations

import urllib.request
from datetime import timedelta
from pathlib import Path

import docker

from lab.errors import InputError
from lab.lab import Lab
from lab.waiting import eventually
from tests.labs import ask

WITHIN = timedelta(seconds=30)


def test_a_lab_of_containers_has_metrics_and_traces(engine: docker.DockerClient, own_lab: Lab, mini_spec: Path) -> None:
    del engine
    own_lab.up(spec=mini_spec, runtime="compose", metrics=True, traces=1.0)

    request_id = ask(own_lab, "mesh").request_id

    units = {"homepage", "homepage-sidecar", "ml-cluster-1-a"}
    with_resolver = units | {"homepage-resolver"}  # unless the lease is still there since the lab came up
    found = "every unit made a span"
    eventually(found, lambda: spans_of(own_lab, request_id), within=WITHIN, until=(units, with_resolver).__contains__)
    urls = {each.labels["unit"]: each.url for each in own_lab.endpoints().metrics}
    for unit in ("homepage", "homepage-resolver", "ml-cluster-1-a", "gateway-1"):
        with urllib.request.urlopen(urls[unit], timeout=10) as answer:  # noqa: S310 (an address of the lab)
            assert 'grpc_server_handled_total{grpc_code="OK"' in answer.read().decode()


def spans_of(lab: Lab, request_id: str) -> set[str]:
    """The units that made spans of a request."""
    try:
        return {span.unit for span in lab.trace(request_id)}
    except InputError:  # none has arrived yet
        return set()
