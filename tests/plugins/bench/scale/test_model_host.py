"""The model host: an answer in the name of the cluster whose address was asked, whatever the caller wrote."""

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from lab.errors import InputError
from lab.plugins.bench.scale.scale_lab import ScaleLab, open_scale_lab
from lab.routing.keys import HEADER
from lab.transport import open_blocking_channel
from models.host.hosted import ARRIVED_AT, read_hosted
from models.proto.control.v1 import host_pb2, host_pb2_grpc
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc


@pytest.fixture(scope="module", name="up")
def _up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScaleLab]:
    home = tmp_path_factory.mktemp("h")
    with open_scale_lab(clusters=12, callers=1, use_cases=4, seed=3, say=lambda _: None, home=home) as up:
        with up.admin() as admin:
            admin.publish([("t.json", json.dumps(up.deployment.document))], author="test")
        yield up


def _places(up: ScaleLab) -> dict[str, str]:
    """Routing key → cluster."""
    return {
        f"{model}.{version}": runs["cluster"]
        for model, entry in up.deployment.document["models"].items()
        for version, runs in entry["versions"].items()
    }


def _address(up: ScaleLab, cluster: str) -> str:
    return next(each.address for each in up.deployment.replicas if each.cluster == cluster)


def _ask(address: str, key: str, *more: tuple[str, str]) -> ranking_pb2.RankResponse:
    with open_blocking_channel(address) as channel:
        request = ranking_pb2.RankRequest(titles=[ranking_pb2.Title(id="t1")])
        metadata = ((HEADER, key), *more)
        return ranking_pb2_grpc.RankingStub(channel).Rank(request, metadata=metadata, timeout=5, wait_for_ready=True)


def test_each_address_answers_in_its_own_clusters_name(up: ScaleLab) -> None:
    for key, cluster in _places(up).items():
        by = _ask(_address(up, cluster), key).answered_by
        assert (cluster, key) == (by.cluster, f"{by.model}.{by.version}")


def test_a_cluster_refuses_models_that_it_does_not_hold(up: ScaleLab) -> None:
    places = _places(up)
    key, cluster = next(iter(places.items()))
    other = next(each for each in places.values() if each != cluster)

    with pytest.raises(grpc.RpcError) as refused:
        _ask(_address(up, other), key)

    assert grpc.StatusCode.FAILED_PRECONDITION is refused.value.code()
    assert "is not loaded at replica" in (refused.value.details() or "")


def test_no_header_of_a_callers_makes_it_another_cluster(up: ScaleLab) -> None:
    places = _places(up)
    key, cluster = next(iter(places.items()))
    other = next(each for each in places.values() if each != cluster)
    lies = [(ARRIVED_AT, _address(up, cluster)), (ARRIVED_AT, _address(up, other))]

    assert _ask(_address(up, cluster), key, *lies).answered_by.cluster == cluster
    with pytest.raises(grpc.RpcError):
        _ask(_address(up, other), key, *lies)


def test_nobody_answers_at_an_address_that_is_no_replicas(up: ScaleLab) -> None:
    port = _address(up, "ml-cluster-1").rpartition(":")[2]

    with pytest.raises(grpc.RpcError) as refused:
        _ask(f"127.9.9.9:{port}", next(iter(_places(up))))

    assert "none at 127.9.9.9" in (refused.value.details() or "")


def test_what_may_be_done_to_the_host_is_not_to_be_had_by_way_of_its_replicas(up: ScaleLab) -> None:
    with open_blocking_channel(_address(up, "ml-cluster-1")) as channel, pytest.raises(grpc.RpcError) as refused:
        host_pb2_grpc.HostStub(channel).Drain(host_pb2.DrainRequest(), timeout=5)

    assert grpc.StatusCode.PERMISSION_DENIED is refused.value.code()


def test_a_list_of_replicas_with_an_address_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "replicas.json"
    file.write_text('[["a", "a-1", "127.1.0.1:1"], ["b", "b-1", "127.1.0.1:1"]]')

    with pytest.raises(InputError, match="an address is listed twice"):
        read_hosted(file)
