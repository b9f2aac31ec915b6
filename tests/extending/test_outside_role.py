"""One file outside the project adds a role with its own probe, which follows what no role of the lab does."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.lab import Lab
from lab.registry import PLUGINS
from lab.roles import ROLES, Follows, followers
from lab.runtime.state import LabState
from tests.lab_command import json_of, run_lab

NAME = "http2-proxy"
# Not ready at the first look, whatever the unit does.
PLUGIN = """
from dataclasses import replace
from pathlib import Path

from docs.examples import http2_proxy
from lab.roles import Follows, Probe

LOOKS = Path({looks!r})


def missing(units, lab):
    seen = LOOKS.read_text() if LOOKS.exists() else ""
    LOOKS.write_text(seen + ",".join(unit.name for unit in units) + " of " + str(len(lab.control_planes)) + "\\n")
    return [] if seen else [unit.name for unit in units]


ROLE = replace(http2_proxy.ROLE, probe=Probe(missing=missing), follows=Follows(rules=True, endpoints=True, xds=True))
TOPOLOGY = http2_proxy.TOPOLOGY
"""


@pytest.fixture
def looks(tmp_path: Path) -> Path:
    return tmp_path / "looks"


@pytest.fixture
def plugin(tmp_path: Path, looks: Path) -> Path:
    file = tmp_path / "outside.py"
    file.write_text(PLUGIN.format(looks=str(looks)))
    return file


def test_lab_up_waits_for_its_own_probe(own_lab: Lab, mini_spec: Path, plugin: Path, looks: Path) -> None:
    up = run_lab(own_lab, "up", "--spec", mini_spec, "--topology", f"+{NAME}", "--plugin", plugin, "--json")

    assert NAME in [call["topology"] for call in json_of(up)["verified"]]
    assert looks.read_text().splitlines() == [f"{NAME} of 1"] * 2


def test_the_control_plane_admits_it_to_all_that_it_follows(
    own_lab: Lab, mini_spec: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLUGINS, str(plugin))
    assert ROLES[NAME].follows != Follows.RULES_AND_ENDPOINTS
    assert NAME in followers("rules")
    assert NAME in followers("xds")

    run_lab(own_lab, "up", "--spec", mini_spec, "--topology", f"+{NAME}", "--plugin", plugin)
    [unit] = LabState.of(own_lab.folder).plan.with_role("control-plane")
    options = dict(zip(unit.argv[3::2], unit.argv[4::2], strict=False))
    for each in ("--rules-for", "--xds-for", "--load-reports-from"):
        assert NAME in options[each].split(","), options
