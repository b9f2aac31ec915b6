import json
from pathlib import Path
from typing import Any

import pytest

from lab.cli import app
from lab.errors import InputError
from lab.plugins.capacity import tail_simulation
from lab.plugins.capacity.costs import PAYLOAD, TITLE


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """A folder as a bench leaves it, with two sizes of two topologies."""
    rows = [[name, size, 0.2, 0.0, 0.1, 0.5, 0.8] for name in ("gateway", "mesh") for size in (400, 30_000)]
    columns = ["topology", PAYLOAD, "caller", "resolver", "sidecar", "gateway", "sum"]
    document = {"name": "capacity", "ran": None, "tables": [{"title": TITLE, "columns": columns, "rows": rows}]}
    (tmp_path / "capacity.json").write_text(json.dumps(document))
    return tmp_path


def lab(*arguments: object) -> Any:
    return app(["capacity", *map(str, arguments)], standalone_mode=False)


def test_one_document_says_of_every_topology_what_it_needs(
    measured: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tail_simulation, "_REQUESTS", 20_000)
    monkeypatch.setattr(tail_simulation, "_LEAST_EACH", 50)

    lab("--from", measured, "--rps", 1e5, "--clusters", 200, "--hop-ms", 1, "--seed", 3, "--json")

    document = json.loads(capsys.readouterr().out)
    gateway, mesh = document["topologies"]
    assert document["demand"]["clusters"] == {
        "value": 200,
        "unit": "clusters",
        "origin": "assumed",
        "source": "--clusters",
    }
    assert [gateway["topology"], mesh["topology"]] == ["gateway", "mesh"]
    assert gateway["cores"]["value"] == pytest.approx(1e5 * 0.7e-3 / 0.6)
    assert [each["hop_ms"]["value"] for each in (gateway, mesh)] == [2, 1]
    assert {each["source"] for each in document["assumed"].values() if each["source"].startswith("--")} == {"--hop-ms"}
    simulated = document["simulated"]
    assert (simulated["origin"], len(simulated["tails"]), len(simulated["outage"])) == ("computed", 12, 6)


def test_a_measured_hop_takes_the_place_of_the_assumed_one(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rounds = {"mesh, no relay, 27 KB, 100 rps": [1.0, 1.1, 1.2], "mesh, 0.25 ms, 27 KB, 100 rps": [1.9, 1.8, 1.7]}
    (measured / "links.json").write_text(json.dumps({"rounds": rounds, "ran": {"started": "2026-11-30T10:00:00Z"}}))
    arguments = ("--from", measured, "--no-simulate", "--json")

    lab(*arguments)
    document = json.loads(capsys.readouterr().out)
    hop = document["assumed"]["hop-ms"]
    assert hop["origin"] == "measured"
    assert hop["value"] == pytest.approx(0.7)
    assert hop["source"].startswith("bench links of 2026-11-30: 27 KB, 100 rps")
    gateway, mesh = document["topologies"]
    assert [each["hop_ms"]["value"] for each in (gateway, mesh)] == pytest.approx([1.4, 0.7])
    lab(*arguments, "--hop-ms", 0.2)
    assert json.loads(capsys.readouterr().out)["assumed"]["hop-ms"]["source"] == "--hop-ms"
    (measured / "links.json").write_text("{}")
    with pytest.raises(InputError, match=r"links.json is not a result of the bench links"):
        lab(*arguments)


def test_tables_mark_measured_computed_and_assumed_figures(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab("--from", measured / "capacity.json", "--payload", "2KB", "--topologies", "mesh", "--no-simulate")

    out = capsys.readouterr().out
    assert all(word in out for word in ("assumed", "computed", "CPU computed: on the line through 400 and 30000 B"))
    assert "simulation" not in out
    assert "gateway" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--payload", "heavy"], "--payload: 'heavy' is not a size"),
        (["--rps", "0"], "--rps: 0 is out of range"),
        (["--service", "load:3,16"], "--service: "),
        (["--service", "soon"], "latency: 'soon'"),
        (["--topologies", "mash"], "--topologies: 'mash' is not known"),
        (["--topologies", "proxyless"], "proxyless: the cost of its part"),
        (["--utilisation", "1.2"], "--utilisation: 1.2 is out of range"),
        (["--from", "nowhere"], "--from: nowhere has no result"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_option(measured: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError) as error:
        lab("--from", measured, *arguments)

    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "capacity.json").write_text("{")

    with pytest.raises(InputError, match=r"--from: .*capacity.json is not JSON"):
        lab("--from", tmp_path)
