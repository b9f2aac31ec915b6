from __future__ import annotations

from models.stub.shadow_journal import Copies


def test_the_newest_are_kept_and_the_others_counted() -> None:
    copies = Copies(kept=2)
    for number in range(5):
        copies.add("rows.v2", f"r{number}")
    copies.add("rows.v3", "r0")

    assert {"rows.v2": (["r3", "r4"], 3), "rows.v3": (["r0"], 0)} == copies.listed()
    assert copies.count == 6
