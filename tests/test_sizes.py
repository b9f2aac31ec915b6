"""The specs that come with the lab."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lab.lab import Lab
from lab.routing.document import read_path
from lab.spec import SIZES, read_spec, spec_file
from services.caller.pages import PAGES


@pytest.mark.parametrize("size", SIZES)
def test_every_caller_may_ask_for_its_page(size: str) -> None:
    spec = read_spec(SIZES[size])
    use_cases = read_path(spec.routes).document["use_cases"]

    for name, caller in spec.callers.items():
        parts = {each for stage in caller.page or PAGES[name] for each in stage}
        for use_case in parts - spec.callers.keys():
            assert name in use_cases[use_case]["callers"], use_case


def test_thirty_callers_are_thirty() -> None:
    assert len(read_spec(SIZES["full"]).callers) == 30


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert spec_file(Path("mini")) == SIZES["mini"]
    (tmp_path / "mini").touch()
    assert spec_file(Path("mini")) == Path("mini")


def test_the_smallest_takes_less_than_300_megabytes(new_lab: Callable[[], Lab]) -> None:
    lab = new_lab()
    assert {each.topology for each in lab.up(spec=Path("mini"), runtime="process")} == {"gateway", "mesh"}

    used = sum(unit.memory_bytes for unit in lab.status(memory=True).units)

    assert 50e6 < used < 300e6
