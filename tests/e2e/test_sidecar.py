"""The sidecar's Envoy, asked by a gRPC client that knows nothing of the lab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest

from lab.lab import Lab
from models.proto.ranking.v1 import ranking_pb2

Rank: TypeAlias = "grpc.UnaryUnaryMultiCallable[ranking_pb2.RankRequest, ranking_pb2.RankResponse]"

DEADLINE_S = 10.0


@pytest.fixture(params=["homepage"])
def rank(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Rank]:
    """Sends requests to a caller's sidecar, which knows only the keys that the caller may use."""
    with grpc.insecure_channel(lab.endpoints().clients[request.param].address_of("sidecar")) as channel:
        yield channel.unary_unary(
            "/ranking.v1.Ranking/Rank",
            request_serializer=ranking_pb2.RankRequest.SerializeToString,
            response_deserializer=ranking_pb2.RankResponse.FromString,
        )


REQUEST = ranking_pb2.RankRequest(titles=[ranking_pb2.Title(id="t1")])


@pytest.mark.parametrize(
    ("rank", "key"),
    [
        ("homepage", "cw-ranker.v1"),
        ("recommendations", "cw-ranker.v2"),
        ("homepage", "rows.v2"),
        ("search", "search-ranker.v1"),
    ],
    indirect=["rank"],
)
def test_the_key_alone_leads_to_the_right_model(rank: Rank, key: str) -> None:
    answer = rank(REQUEST, metadata=(("x-routing-key", key),), timeout=DEADLINE_S)

    assert key == f"{answer.answered_by.model}.{answer.answered_by.version}"


BAD_KEYS = {
    "absent": [],
    "empty": [""],
    "the control plane's cluster": ["xds"],
    "wildcard": ["*"],
    "padded": [" cw-ranker.v1"],
    "upper case": ["CW-RANKER.v1"],
    "no version": ["cw-ranker"],
    "version too long": ["cw-ranker.v1234567890"],
    "model too long": ["a" * 64 + ".v1"],
    "good then bad": ["cw-ranker.v1", "xds"],
    "bad then good": ["xds", "cw-ranker.v1"],
    "twice the same": ["cw-ranker.v1", "cw-ranker.v1"],
    "joined": ["cw-ranker.v1,rows.v1"],
    "shard 0": ["cw-ranker.v1.s0"],
    "a shard with a leading zero": ["cw-ranker.v1.s01"],
    "a shard of three digits": ["cw-ranker.v1.s100"],
    "two shards": ["cw-ranker.v1.s1.s1"],
    "a shard without a version": ["cw-ranker.s1"],
}


@pytest.mark.parametrize("case", BAD_KEYS)
def test_all_but_one_well_formed_key_is_refused_and_the_next_good_call_succeeds(rank: Rank, case: str) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        rank(REQUEST, metadata=tuple(("x-routing-key", key) for key in BAD_KEYS[case]), timeout=DEADLINE_S)

    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "send exactly one, of the form model.v1" in (refusal.value.details() or "")
    assert rank(REQUEST, metadata=(("x-routing-key", "cw-ranker.v1"),), timeout=DEADLINE_S).answered_by.version == "v1"


def test_a_key_that_nobody_serves_is_unavailable_at_once_every_time(rank: Rank) -> None:
    for _ in range(5):
        with pytest.raises(grpc.RpcError) as refusal:
            rank(REQUEST, metadata=(("x-routing-key", "nobody.v7"),), timeout=DEADLINE_S)

        assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
        # Not "cluster not found", which is what Envoy says after having waited for one in vain.
        assert refusal.value.details() == "routing key 'nobody.v7': no such key for this caller"


@pytest.mark.parametrize("rank", ["playback"], indirect=True)
def test_a_key_that_nobody_served_works_from_the_moment_that_it_is_published(
    rank: Rank, lab: Lab, routes: Path, tmp_path: Path
) -> None:
    with pytest.raises(grpc.RpcError):
        rank(REQUEST, metadata=(("x-routing-key", "up-next.v2"),), timeout=DEADLINE_S)
    new = tmp_path / "new.yaml"
    before = "  up-next:\n    versions:\n"
    assert before in routes.read_text()
    table = routes.read_text().replace(before, before + "      v2: {cluster: ml-cluster-1}\n")
    # Somebody must be sent there: what no use case of a caller's may lead to does not exist for it.
    chosen = "    default: up-next@v1\n"
    assert chosen in table
    new.write_text(table.replace(chosen, chosen + "    fallback: [up-next@v2]\n"))

    lab.routes.publish(new)

    answer = rank(REQUEST, metadata=(("x-routing-key", "up-next.v2"),), timeout=DEADLINE_S)
    assert (answer.answered_by.version, answer.answered_by.cluster) == ("v2", "ml-cluster-1")


def test_a_body_for_another_model_than_the_header_is_a_tear(rank: Rank) -> None:
    torn = ranking_pb2.RankRequest()
    torn.envelope.model_config.model, torn.envelope.model_config.version = "cw-ranker", "v2"

    with pytest.raises(grpc.RpcError) as refusal:
        rank(torn, metadata=(("x-routing-key", "cw-ranker.v1"),), timeout=DEADLINE_S)

    assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "cw-ranker.v1" in (refusal.value.details() or "")
