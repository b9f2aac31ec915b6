"""The page of long scenarios: the latest result of each, and those that were never tried."""

import json
from pathlib import Path

from scenarios.framework.catalogue import RESULT, entries
from scenarios.framework.long_record import page


def _leave(runs: Path, session: str, **result: object) -> None:
    entry = next(each for each in entries() if each.long)
    folder = runs / session / entry.module / "case"
    folder.mkdir(parents=True)
    known = {"module": entry.module, "name": entry.name, "case": "mesh", "topology": "mesh", "runtime": "process"}
    (folder / RESULT).write_text(json.dumps({**known, "figures": {}, "reason": "", "took_s": 61.2, **result}))


def test_the_latest_result_is_shown_with_its_date_lab_and_figures(tmp_path: Path) -> None:
    _leave(tmp_path, "20260101T000000Z", verdict="invalid", lab="1.0.0 (aaaaaaa)")
    _leave(tmp_path, "20260203T000000Z", verdict="valid", lab="1.1.0 (bbbbbbb)", figures={"moved": "3 of 9"})

    rows = [line for line in page(tmp_path).splitlines() if "61 s" in line]

    assert len(rows) == 1
    assert "| mesh | process | valid | 61 s | moved: 3 of 9 | 2026-02-03 | 1.1.0 (bbbbbbb) |" in rows[0]


def test_what_was_never_tried_says_so(tmp_path: Path) -> None:
    long = {each.name for each in entries() if each.long or each.long_on}

    assert page(tmp_path).count("never tried") == len(long) > 0
