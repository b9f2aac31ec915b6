from __future__ import annotations

import grpc
import pytest

from models.proto.control.v1 import replicas_pb2
from models.proto.serving.v1 import serving_pb2
from models.stub.admission import LoadedVersion, Refused, Suspended, select

REPLICA = "ml-cluster-1-a"


def held(*keys: str) -> dict[str, LoadedVersion]:
    found = {}
    for key in keys:
        model, version, *_ = key.split(".")
        found[key] = LoadedVersion(key, model, version, serving_pb2.AnsweredBy())
    return found


@pytest.mark.parametrize(
    ("model", "version", "keys", "loaded"),
    [
        pytest.param("rows", "v1", (), ("rows.v1", "rows.v2"), id="body alone"),
        pytest.param("rows", "v1", ("rows.v1",), ("rows.v1", "rows.v2"), id="both agree"),
        pytest.param("rows", "v1", ("rows.v1", "rows.v1"), ("rows.v1", "rows.v2"), id="header twice, the same"),
        pytest.param("", "", ("rows.v1",), ("rows.v1", "rows.v2"), id="header alone"),
        pytest.param("", "", (), ("rows.v1",), id="nothing, and there is only one"),
    ],
)
def test_the_version_that_is_named_answers(
    model: str, version: str, keys: tuple[str, ...], loaded: tuple[str, ...]
) -> None:
    assert select(model, version, keys, held(*loaded), REPLICA).routing_key == "rows.v1"


@pytest.mark.parametrize("model", ["rows", ""])
def test_a_shard_is_answered_by_itself_alone(model: str) -> None:
    version = "v1" if model else ""
    loaded = held("rows.v1.s1", "rows.v1.s3")
    assert select(model, version, ["rows.v1.s3"], loaded, REPLICA).routing_key == "rows.v1.s3"
    for key in ("rows.v1.s2", "rows.v1"):
        with pytest.raises(Refused, match=f"{key}.* is not loaded at replica"):
            select(model, version, [key], loaded, REPLICA)


@pytest.mark.parametrize(
    ("model", "version", "keys", "loaded", "words"),
    [
        pytest.param("rows", "v2", (), ("rows.v1",), ("rows@v2", REPLICA, "holds rows.v1"), id="body not loaded"),
        pytest.param("", "", ("rows.v2",), ("rows.v1",), ("rows@v2", REPLICA), id="header not loaded"),
        pytest.param("rows", "v1", ("rows.v2",), ("rows.v1", "rows.v2"), ("tear", "'rows.v2'", "'rows.v1'"), id="tear"),
        pytest.param("rows", "v1", ("",), ("rows.v1",), ("tear", "''", "'rows.v1'"), id="empty header is another"),
        pytest.param("", "", (), ("rows.v1", "rows.v2"), ("x-routing-key", "envelope.model_config"), id="which?"),
        pytest.param("", "", (), (), ("x-routing-key", "holds none"), id="none at all"),
        pytest.param("", "", ("nonsense",), ("rows.v1",), ("'nonsense'", REPLICA), id="not a key"),
        pytest.param("rows", "", (), ("rows.v1",), ("set both or neither",), id="model without version"),
        pytest.param("", "v1", (), ("rows.v1",), ("set both or neither",), id="version without model"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_remedy(
    model: str, version: str, keys: tuple[str, ...], loaded: tuple[str, ...], words: tuple[str, ...]
) -> None:
    with pytest.raises(Refused) as refused:
        select(model, version, keys, held(*loaded), REPLICA)

    assert refused.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert [word for word in words if word not in refused.value.message] == []


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_two_different_headers_are_refused_for_any_body(version: str) -> None:
    with pytest.raises(Refused) as refused:
        select("rows", version, ("rows.v1", "rows.v2"), held("rows.v1", "rows.v2"), REPLICA)

    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "rows.v1" in refused.value.message
    assert "rows.v2" in refused.value.message


GATEWAY_1, SIDECAR = "2 gateway (gateway-1; parsed)", "2 sidecar (homepage-sidecar)"


@pytest.mark.parametrize(
    ("caller", "via", "who"),
    [
        ("homepage", SIDECAR, "the resolver of caller 'homepage'"),
        ("homepage", "", "the resolver of caller 'homepage'"),
        ("homepage", "2 gateway-nginx (gateway-nginx-1)", "the resolver of caller 'homepage'"),
        ("homepage", "2 gateway (gateway-2; parsed)", ""),
        ("search", SIDECAR, ""),
        ("search", GATEWAY_1, "the gateway"),
        ("", GATEWAY_1, "the gateway"),
        ("search", "2 gateway (gateway-11; parsed)", ""),
    ],
)
def test_what_a_suspended_node_decides_is_refused(caller: str, via: str, who: str) -> None:
    by_one, by_another = replicas_pb2.Suspension(callers=["homepage"]), replicas_pb2.Suspension(gateways=["gateway-1"])
    suspended = Suspended.by([by_one, by_another])
    assert suspended is not None

    if not who:
        suspended.require_current(caller, via, "rows.v1")
        return
    with pytest.raises(Refused, match=f"{who} does not follow the route table") as caught:
        suspended.require_current(caller, via, "rows.v1")
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_nobody_is_suspended_at_first() -> None:
    assert Suspended.by([replicas_pb2.Suspension()]) is None
