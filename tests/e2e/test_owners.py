"""Owners publish what is theirs, as their certificates prove, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from lab.errors import InputError, NotOwnedError
from lab.lab import Lab
from lab.ops.routes import as_yaml
from lab.runtime.identities import Identities
from lab.transport import Security, open_blocking_channel
from models.proto.control.v1 import admin_pb2, admin_pb2_grpc
from tests.lab_command import json_of, run_lab
from tests.labs import TWO_CALLERS_ROUTES, TWO_CALLERS_SPEC, lab_up, write_spec

USE_CASE, OTHER = "ContinueWatchingRanking", "SearchRanking"


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab with mutual TLS in which two owners have a use case each, and certificates."""
    folder = tmp_path_factory.mktemp("owned")
    spec = write_spec(folder, TWO_CALLERS_SPEC, TWO_CALLERS_ROUTES)
    with lab_up(folder, spec=spec, topologies=["mesh"], security="mtls") as lab:
        publish(lab, folder, {USE_CASE: {"owner": "ads"}, OTHER: {"owner": "kids"}})
        for each in ("ads", "kids"):
            lab.certificates.issue_to_owner(each)
        yield lab


def entry(lab: Lab, use_case: str) -> dict[str, Any]:
    document = lab.routes.show().document
    assert document is not None
    return dict(document["use_cases"][use_case])


def publish(lab: Lab, folder: Path, changes: dict[str, dict[str, str]], owner: str = "") -> int:
    document = lab.routes.show().document
    assert document is not None
    for name, fields in changes.items():
        document["use_cases"][name] |= fields
    (file := folder / "changed.yaml").write_text(as_yaml(document))
    return lab.routes.publish(file, owner=owner)


def test_an_owner_publishes_their_own_and_is_refused_all_else(owned: Lab, tmp_path: Path) -> None:
    revision = publish(owned, tmp_path, {USE_CASE: {"timeout": "2s"}}, owner="ads")
    assert owned.routes.show().revision == revision
    assert owned.routes.show().author.endswith(" as ads")

    with pytest.raises(NotOwnedError, match=rf"use_cases.{OTHER}.timeout: owned by kids, not by ads"):
        publish(owned, tmp_path, {USE_CASE: {"timeout": "1s"}, OTHER: {"timeout": "2s"}}, owner="ads")
    (one := tmp_path / "one.yaml").write_text(yaml.safe_dump(entry(owned, OTHER) | {"timeout": "3s"}))
    with pytest.raises(NotOwnedError, match="owned by kids, not by ads"):
        owned.routes.set_use_case(OTHER, one, owner="ads")
    assert owned.routes.set_use_case(OTHER, one, owner="kids") == revision + 1
    with pytest.raises(NotOwnedError, match="owned by kids"):
        owned.routes.rollback(revision, owner="ads")
    assert owned.routes.show().revision == revision + 1, "what is refused publishes nothing"
    assert entry(owned, USE_CASE)["timeout"] == "2s"

    refused = [
        act for act in json_of(run_lab(owned, "audit", "--json"))["acts"] if act["status"] == "PERMISSION_DENIED"
    ]
    assert {act["who"] for act in refused} == {"spiffe://lab.internal/owner/ads"}
    listed = json_of(run_lab(owned, "routes", "history", "--as", "kids", "--json"))
    assert [each["revision"] for each in listed] == [revision + 1]
    compared = json_of(run_lab(owned, "routes", "diff", str(revision), str(revision + 1), "--json"))
    assert compared["changes"] == [{"entry": f"use_cases.{OTHER}", "owner": "kids"}]


def test_an_owner_administers_nothing_else(owned: Lab) -> None:
    identities = Identities(owned.folder)
    own = Security("mtls", str(identities.of(identities.owner("ads"))))
    units = {unit.role: unit.address for unit in owned.status().units}
    with open_blocking_channel(units["control-plane"], own) as channel:
        stub = admin_pb2_grpc.AdminStub(channel)
        for call in (
            lambda: stub.GetStatus(admin_pb2.GetStatusRequest(), timeout=5),
            lambda: stub.ListNodes(admin_pb2.ListNodesRequest(), timeout=5),
            lambda: stub.AdmitNode(admin_pb2.AdmitNodeRequest(node="x"), timeout=5),
            lambda: stub.ListActs(admin_pb2.ListActsRequest(), timeout=5),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call()
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert stub.GetRevision(admin_pb2.GetRevisionRequest(), timeout=5).revision > 0


def test_a_name_without_a_certificate_publishes_nothing(owned: Lab) -> None:
    done = run_lab(owned, "routes", "rollback", "1", "--as", "search")
    assert done.returncode == 1
    assert "lab pki owner search" in done.stderr
    with pytest.raises(InputError, match="cannot name an owner"):
        owned.certificates.issue_to_owner("../ads")
    assert "search" in json_of(run_lab(owned, "pki", "owner", "search", "--json"))["certificates"][0]["unit"]
