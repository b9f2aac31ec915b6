"""Probes of resolvers, as a run's folder has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.checkers import ProbeAnswer
from lab.errors import RunError
from lab.roles import Unit
from lab.roles._unit import Port
from lab.runs.folder import RunFolder
from lab.runs.unit_evidence import probed


def test_answers_are_read(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).probes == ()
    (tmp_path / "probes.json").write_text('[["homepage-resolver", 5, 6, 1]]')
    assert RunFolder(tmp_path).probes == [ProbeAnswer("homepage-resolver", 5, 6, 1)]


@pytest.mark.parametrize("text", ["3", "[[1, 2]]", '[["a", 1, 2, "x"]]'])
def test_anything_else_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "probes.json").write_text(text)
    with pytest.raises(RunError, match=r"probes.json: no answers to probes"):
        _ = RunFolder(tmp_path).probes


@pytest.mark.parametrize(
    ("topology", "expected"),
    [("mesh", ["homepage-resolver"]), ("direct", []), ("gateway", []), ("proxyless", ["homepage-resolver"])],
)
def test_the_resolver_that_the_requests_ask_is_probed_and_no_other(topology: str, expected: list[str]) -> None:
    port = Port("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1")
    units = [
        Unit(f"{caller}-{role}", role, (), port, pod=caller)
        for caller in ("homepage", "search")
        for role in ("resolver", "sidecar")
    ]

    assert [each.name for each in probed(units, topology, "homepage")] == expected
