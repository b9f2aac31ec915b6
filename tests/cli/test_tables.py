"""Tables of the terminal: a number, a time or a verdict is whole at any width, and nothing is cut in a pipe."""

import io
import re
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lab.cli.output import Table, table

WORDS = st.text(string.ascii_lowercase, min_size=1, max_size=20)
TEXT = st.lists(WORDS, max_size=12).map(" ".join)
FIGURE = st.from_regex(r"[0-9]{1,7}\.[0-9]{3}( \[[0-9]{1,3}\.[0-9]{3}, [0-9]{1,3}\.[0-9]{3}\])?", fullmatch=True)
VERDICT = st.sampled_from(["valid", "invalid", "not distinguishable", "FAILED_PRECONDITION"])


@st.composite
def tables(draw: st.DrawFn) -> Table:
    kinds = draw(st.lists(st.sampled_from([TEXT, FIGURE, VERDICT]), min_size=1, max_size=9))
    headings = [f"{draw(WORDS)} {number}" for number, _ in enumerate(kinds)]
    rows = draw(st.lists(st.tuples(*kinds), max_size=6))
    texts = [name for name, kind in zip(headings, kinds, strict=True) if kind is TEXT]
    optional = draw(st.lists(st.sampled_from(headings[1:]), unique=True)) if headings[1:] else []
    return table(headings, rows, folds=texts, optional=optional)


def shown(of: Table, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(of, crop=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def left_out(text: str) -> set[str]:
    """The columns that notes below tables name; a note ends with the text, or before an empty line."""
    notes = re.finditer(r"^not shown in \d+ columns: (.*?)(\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    return {name for note in notes for name in " ".join(note[1].split()).split(", ")}


def missing(of: Table, text: str) -> set[str]:
    """What has been cut: protected cells that no line shows whole, and words of other cells; paths may be folded."""
    gone = left_out(text)
    found = set()
    for row in of.rows:
        for heading, cell in zip(of.headings, row, strict=True):
            words = [word for word in cell.plain.split() if re.fullmatch(r"[\w-]{1,20}", word)]
            parts = words if heading in of.folds else [cell.plain]
            found |= {part for part in parts if heading not in gone and part not in text}
    return found


# One test, as to draw a table takes longer than to print it.
@given(tables(), st.integers(30, 200), st.integers(80, 130))
def test_cells_are_whole_at_any_width_lines_fit_and_end_without_spaces_and_a_pipe_has_each_row_on_one_line(
    of: Table, width: int, window: int
) -> None:
    assert missing(of, shown(of, width)) == set()

    text = shown(replace(of, optional=()), width)  # what is left out is prose below it
    assert [line for line in text.splitlines() if line != line.rstrip()] == []

    lines = shown(of, 10_000).splitlines()[1:]
    assert [line.split() for line in lines] == [" ".join(cell.plain for cell in row).split() for row in of.rows]

    cells = [cell.plain for heading in of.headings for row in of.rows for cell in row if heading not in of.folds]
    widest = max((len(cell) for cell in [*cells, " " * 22]), default=0)
    if 2 * widest + 2 <= window:
        assert max(map(len, shown(of, window).splitlines()), default=0) <= window


def test_text_folds_before_anything_is_left_out() -> None:
    of = table(("name", "ms", "because"), [("mesh", "1.385", "a b " * 20)], folds=("because",), optional=("ms",))

    assert "1.385" in shown(of, 40)
    assert "not shown" not in shown(of, 40)


@pytest.mark.parametrize("width", [30, 80])
def test_brackets_in_a_cell_are_no_markup(width: int) -> None:
    assert "[none] [/] [red]" in shown(table(("what",), [("[none] [/] [red]",)]), width)


def test_a_table_that_continues_names_its_rows_again() -> None:
    cells = [
        ("mesh", size, f"{number}.123 [1.000, 2.000]", "undecided") for number, size in enumerate(("4 KB", "2 MB"))
    ]
    of = table(("path", "at", "driver", "verdict"), cells, right=("driver",))

    [first, second] = shown(of, 40).split("\n\n")

    for part in (first, second):
        assert [line.split()[:3] for line in part.splitlines()[1:]] == [["mesh", "4", "KB"], ["mesh", "2", "MB"]]
