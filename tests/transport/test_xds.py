"""The node identity of a process whose gRPC library speaks xDS."""

import json
import os

import pytest

from lab.errors import SpecError
from lab.transport import xds
from lab.transport.channels import DATA_KEEPALIVE, OPTIONS


@pytest.fixture(autouse=True)
def nobody_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xds, "_in_environment", [])
    monkeypatch.setenv("GRPC_XDS_BOOTSTRAP_CONFIG", "the parent process's")
    monkeypatch.delenv("GRPC_XDS_BOOTSTRAP", raising=False)


def node() -> dict[str, object]:
    found: dict[str, object] = json.loads(os.environ["GRPC_XDS_BOOTSTRAP_CONFIG"])["node"]
    return found


def test_a_process_is_one_node_however_many_channels_it_opens() -> None:
    xds._bootstrap_options("127.0.0.1:1", "homepage")
    first = node()
    xds._bootstrap_options("127.0.0.1:1", "homepage")

    assert node() == first
    assert (first["cluster"], first["metadata"]) == ("homepage", {"role": "proxyless"})


def test_processes_of_one_caller_have_different_ids() -> None:
    ids = {json.loads(json.dumps(xds.bootstrap("127.0.0.1:1", "homepage")))["node"]["id"] for _ in range(20)}

    assert len(ids) == 20
    assert all(each.startswith("homepage-proxyless-") for each in ids)


@pytest.mark.parametrize(("control_plane", "caller"), [("127.0.0.1:1", "search"), ("127.0.0.1:2", "homepage")])
def test_a_second_node_of_a_process_is_given_by_channel_argument(control_plane: str, caller: str) -> None:
    assert xds._bootstrap_options("127.0.0.1:1", "homepage") == (*OPTIONS, *DATA_KEEPALIVE)
    first = node()

    options = dict(xds._bootstrap_options(control_plane, caller))

    given = json.loads(str(options["grpc.TEST_ONLY_DO_NOT_USE_IN_PROD.xds_bootstrap_config"]))
    assert (given["node"]["cluster"], given["xds_servers"][0]["server_uri"]) == (caller, control_plane)
    assert node() == first
    assert xds._bootstrap_options("127.0.0.1:1", "homepage") == (*OPTIONS, *DATA_KEEPALIVE)


def test_a_foreign_bootstrap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_XDS_BOOTSTRAP", "/etc/xds.json")

    with pytest.raises(SpecError, match="GRPC_XDS_BOOTSTRAP is set"):
        xds._bootstrap_options("127.0.0.1:1", "homepage")
