"""The site's table of notebooks says what each asks, and leads to those that were published."""

from pathlib import Path

from docs.site.notebooks import notebooks, table
from lab import CHECKOUT


def test_every_notebook_of_the_workshop_says_what_it_asks_and_how_long_it_takes() -> None:
    found = notebooks()

    assert len(found) == len(list((CHECKOUT / "notebooks").glob("*.ipynb"))) > 0
    workshop = [each for each in found if not each.name.startswith("0-")]
    assert [each.name for each in workshop if not each.question.endswith("?")] == []
    assert all(15 <= int(each.minutes) <= 25 for each in workshop)


def test_only_a_published_notebook_is_a_link(tmp_path: Path) -> None:
    first, *others = notebooks()
    (tmp_path / f"{first.name}.html").touch()

    _, _, row, *rows = table(tmp_path).splitlines()

    assert f'<a href="notebooks/{first.name}.html">' in row
    assert all("href" not in each for each in rows)
    assert all(each.path in row for each, row in zip(others, rows, strict=True))
