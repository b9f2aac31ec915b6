from __future__ import annotations

from models.stub.journal import ShadowJournal


def test_the_newest_are_kept_and_the_others_counted() -> None:
    journal = ShadowJournal(kept=2)
    for number in range(5):
        journal.add("rows.v2", f"r{number}", b"%d" % number)
    journal.add("rows.v3", "r0")

    assert journal.listed() == {"rows.v2": ([("r3", b"3"), ("r4", b"4")], 3), "rows.v3": ([("r0", b"")], 0)}
    assert journal.count == 6
