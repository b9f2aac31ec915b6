"""The catalogue is read from the source of the scenarios, and its page is up to date."""

import json
from pathlib import Path

import pytest

from lab import CHECKOUT
from lab.errors import LabError
from scenarios.framework.catalogue import RESULT, default_topologies, entries, how_long, measurements, page, where
from tests.lab_command import run_lab

SCENARIO = '''
@pytest.mark.long
@pytest.mark.scenario(takes_s=9, topologies=("mesh", "gateway"), runtimes=("compose",))
@pytest.mark.parametrize("member", ["a", "b"])
def test_nobody_notices(lab, topology, member):
    """A member dies.

    And more.
    """
'''


def _written(folder: Path, source: str) -> Path:
    (folder / "test_some.py").write_text(source)
    return folder


def test_the_page_of_scenarios_is_what_their_source_says() -> None:
    assert page() == (CHECKOUT / "docs" / "scenarios.md").read_text(), "make pages writes it anew"


def test_every_scenario_of_the_house_is_in_the_catalogue_and_claims_something_of_its_own() -> None:
    listed = entries()

    assert len({each.claim for each in listed}) == len(listed) >= 17
    assert {each.module for each in listed} >= {"test_by_name", "test_survival", "test_rolls"}


def test_continuous_integration_tries_every_topology_it_is_for_in_seconds() -> None:
    smoke = [each for each in entries() if each.smoke]

    assert not [each for each in smoke if each.long]
    assert {name for each in smoke for name in each.topologies} >= {"gateway", "mesh"}


def test_a_scenario_says_what_it_shows_how_long_and_where(tmp_path: Path) -> None:
    (entry,) = entries(_written(tmp_path, SCENARIO))

    assert (
        entry.claim,
        entry.shows,
        entry.takes_s,
        entry.long,
        entry.smoke,
    ) == ("nobody notices", "A member dies.", 9, True, False)
    assert (where(entry), how_long(entry), entry.runtimes) == ("each of mesh, gateway", "9 s a topology", ("compose",))


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        ('def test_a(topology):\n    """It works."""\n', "takes_s"),
        ("@pytest.mark.scenario(takes_s=1)\ndef test_a(topology): ...\n", "docstring"),
        ('@pytest.mark.scenario(takes_s=1)\ndef test_a(lab):\n    """It works."""\n', "topologies"),
        ('@pytest.mark.scenario(takes_s=1, topologies=SOME)\ndef test_a():\n    """It works."""\n', "literals"),
    ],
)
def test_a_scenario_that_says_too_little_is_refused_in_one_line(source: str, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=remedy) as refusal:
        entries(_written(tmp_path, source))

    assert "\n" not in str(refusal.value)
    assert "test_some.py" in str(refusal.value)


def test_a_scenario_takes_as_long_as_its_cases_together_when_they_last_passed(tmp_path: Path) -> None:
    def leave(session: str, case: str, took_s: float, verdict: str = "valid") -> None:
        folder = tmp_path / session / "some" / case
        folder.mkdir(parents=True)
        about = {"module": "test_some", "name": "test_nobody_notices", "runtime": "process", "topology": "mesh"}
        (folder / RESULT).write_text(json.dumps({**about, "took_s": took_s, "verdict": verdict}))

    leave("20260101T000000Z", "a", 50)
    leave("20260102T000000Z", "a", 2)
    leave("20260102T000000Z", "b", 3)
    leave("20260103T000000Z", "a", 99, "unknown")
    (tmp_path / "latest").symlink_to("20260103T000000Z")

    assert measurements(tmp_path) == {("test_some", "test_nobody_notices"): {"process": {"mesh": 5}}}


def test_the_command_lists_them_with_no_lab_up() -> None:
    result = run_lab(None, "scenarios", "--json")

    assert result.returncode == 0, result.stderr
    listed = json.loads(result.stdout)["scenarios"]
    assert {each.name for each in entries()} == {each["name"] for each in listed}
    moves = next(each for each in listed if each["name"].startswith("test_a_model_moves"))
    assert moves["topologies"] == list(default_topologies())


def test_the_command_says_it_in_words() -> None:
    text = run_lab(None, "scenarios").stdout

    assert "every use case reaches its model by name" in text
    assert "compose and kubernetes and process" in text


def test_a_claim_has_at_most_eight_words() -> None:
    too_long = [each.claim for each in entries() if len(each.claim.split()) > 8]

    assert too_long == []
