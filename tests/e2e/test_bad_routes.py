"""Bad route tables: one line with file, line, field and remedy, and the running lab keeps what it has."""

from __future__ import annotations

import random
import string
from pathlib import Path

import pytest

from lab import CHECKOUT
from lab.client.admin import AdminClient
from lab.errors import InputError
from lab.lab import Lab
from tests.lab_command import refusal, run_lab

GOOD = (CHECKOUT / "routes.yaml").read_text()
DEFAULT = "    default: cw-ranker@v1\n"
RULE = "      - name: kids\n"


def _line(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def _with(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


SPLIT = """      - name: canary
        split: {unit: user_id, weights: {cw-ranker@v1: 100, cw-ranker@v2: -1}}
"""

BAD = {
    "syntax": (_with("callers: [search]", "callers: [search"), "callers: [search", "", ""),
    "unknown-field": (_with(DEFAULT, "    defualt: cw-ranker@v1\n"), "defualt", "defualt", "did you mean 'default'"),
    "unknown-model": (
        _with("default: up-next@v1", "default: down-next@v1"),
        "default: down-next",
        "default",
        "down-next",
    ),
    "negative-weight": (_with(RULE, SPLIT + RULE), "weights:", "weights", "-1"),
    "duplicate-name": (_with("- name: tv-north-america", "- name: kids"), None, "name", "kids"),
    "duplicate-key": (_with("  UpNext:", "  SearchRanking:"), None, "SearchRanking", ""),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_table_is_said_in_one_line_and_the_revision_in_force_stays(lab: Lab, tmp_path: Path, case: str) -> None:
    text, part, field, remedy = BAD[case]
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    before = lab.routes.show().revision

    line = refusal(run_lab(lab, "routes", "publish", str(file)))

    place = f"lab: {file}:" if part is None or case == "syntax" else f"lab: {file}:{_line(text, part)}:"
    assert line.startswith(place)
    assert line.removeprefix(f"lab: {file}:").split(":")[0].isdigit()
    assert field in line
    assert remedy in line
    assert lab.routes.show().revision == before
    assert lab.call("UpNext", topology="mesh", caller="playback").version == "v1"


def test_ten_thousand_lines_of_noise_are_one_line(lab: Lab, tmp_path: Path) -> None:
    draw = random.Random(0)  # noqa: S311 (no secret)
    noise = ["".join(draw.choices(string.printable, k=60)).replace("\n", " ") for _ in range(10_000)]
    file = tmp_path / "noise.yaml"
    file.write_text("\n".join(noise))

    line = refusal(run_lab(lab, "routes", "publish", str(file)))

    assert line.startswith(f"lab: {file}:")
    assert len(line) < 500 + len(str(file))


def test_the_control_plane_checks_for_itself_what_it_is_sent(lab: Lab) -> None:
    before = lab.routes.show().revision
    with (
        AdminClient(lab.endpoints().control_plane) as admin,
        pytest.raises(InputError, match=r"bad\.yaml:1: is not a route table: "),
    ):
        admin.publish([("bad.yaml", "nonsense: 1\n")], author="eve")

    assert lab.routes.show().revision == before
