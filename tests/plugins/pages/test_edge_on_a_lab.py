"""A lab with an edge: pages go through it, and callers take users' pages from nobody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.lab import Lab
from lab.spec import SIZES
from tests.lab_command import json_of, run_lab
from tests.labs import lab_up
from tests.plugins.pages.asking import error_of


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("edge")
    with lab_up(folder, spec=SIZES["pages"], topologies=["mesh"], roles=["edge"], security="mtls", traces=1.0) as lab:
        yield lab


def test_pages_go_through_the_edge_as_record_trace_and_log_show(lab: Lab) -> None:
    options = ("--page", "homepage", "--topology", "mesh", "--rate", "5", "--duration", "3", "--cancel-every", "0")

    driven = json_of(run_lab(lab, "load", *options, "--page-timeout-ms", "9000", "--json"))

    assert driven["verdict"] == "valid"
    slowest = json_of(run_lab(lab, "page", "--json"))
    assert slowest["via"] == ["edge"]
    spans = json_of(run_lab(lab, "trace", slowest["id"], "--json"))["spans"]
    assert [span["unit"] for span in spans][:3] == ["edge", "edge", "homepage"]
    [line] = json_of(run_lab(lab, "logs", slowest["id"], "--json"))["lines"]
    fields = line["fields"]
    assert (line["unit"], fields["user_id"], fields["status"]) == ("edge", slowest["user_id"], "OK")


def test_a_caller_takes_users_pages_from_the_edge_alone(lab: Lab) -> None:
    def asked_by(name: str, *, of: str) -> str:
        error = error_of(lab, name, of=of)
        return f"{error.details()}" if error else "OK"

    refused = "spiffe://lab.internal/caller/homepage: users ask for the page of homepage through edge"
    assert asked_by("homepage", of="homepage") == refused
    assert asked_by("edge", of="homepage") == "OK"
    assert asked_by("homepage", of="search") == "OK"
    assert "is not a part of yours" in asked_by("search", of="homepage")
