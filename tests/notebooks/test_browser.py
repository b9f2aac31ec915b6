"""Notebooks in JupyterLab in a real browser: what is ours shows, is cut nowhere, asks nobody, and needs no mouse.

JupyterLab's own menus, toolbars and editors are not ours: they are served and used here, but not judged.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from pathlib import Path

import nbformat
import pytest

from lab.lab import Lab
from lab.waiting import eventually
from tests.browser import Page, chromium
from tests.notebooks.jupyter import make_notebooks
from tests.notebooks.test_notebooks import FIRST, run_to_the_end

WITHIN = timedelta(seconds=60)
CONTROLS = "controls.ipynb"
# As in notebooks 3 and 5, without a lab.
CELLS = (
    """from lab.plugins.workshop import Guess, guess as module, guesses, slider
module.AT_ONCE_S = 0.0  # a person comes between the cells
from lab.plugins.workshop.users import users_picture
guess = Guess("Added to direct", ["gateway", "mesh"], unit="ms")
guess""",
    """guess.unlock()
guesses(guess, {"gateway": 2.0, "mesh": 0.4})""",
    """def draw(users):
    return users_picture(["v2"] * users + ["v1"] * (3 - users), title=f"{users} of 3")
slider("users on v2", [1, 2, 3], draw, at=2)""",
)
OURS = ".jp-OutputArea-output"
# Python cannot name the handle of ipywidgets' slider; the slider's label stands beside it.
JUDGED = {"include": [[OURS]], "exclude": [[".noUi-handle"]]}
TEXT = f"[...document.querySelectorAll('{OURS}')].map(each => each.textContent).join(' | ')"
# What has the focus: its tag, its text, and whether one sees that it has the focus.
FOCUS = """(() => {
  const at = document.activeElement, style = getComputedStyle(at);
  const other = getComputedStyle(document.querySelector('.lab-guess input:not(:focus)'));
  const seen = style.outlineStyle !== 'none' || style.boxShadow !== 'none' || style.borderColor !== other.borderColor;
  return [at.tagName, at.textContent.trim(), seen];
})()"""
CUT = f"""[...document.querySelectorAll('{OURS} *')].filter(each => each.scrollWidth > each.clientWidth + 1
  && each.clientWidth && getComputedStyle(each).overflowX === 'hidden').map(each => each.outerHTML.slice(0, 120))"""


@pytest.mark.timeout(300)
def test_what_notebooks_show_is_whole_quiet_and_used_by_keyboard(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "root" / "notebooks"
    folder.mkdir(parents=True)
    nbformat.write(run_to_the_end(FIRST, lab), folder / FIRST.name)
    nbformat.write(controls(), folder / CONTROLS)
    token = secrets.token_hex(16)
    root = f"--no-browser --ServerApp.root_dir={folder.parent}"
    with make_notebooks(lab, token, tmp_path / "make.log", root) as server, chromium() as page:
        page.open(f"{server['url']}api/status?token={token}")  # which leaves a cookie
        show_what_ran(page, server["url"])
        use_by_keyboard(page, server["url"])
        assert {url.split("/")[2] for url in page.requested} == {server["url"].split("/")[2]}


def controls() -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook: nbformat.NotebookNode = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    return notebook


def show_what_ran(page: Page, url: str) -> None:
    """Notebook 0 with its output, at two widths."""
    visit(page, f"{url}doc/tree/notebooks/{FIRST.name}")
    await_text(page, "processes stopped")  # its last cell: JupyterLab adds cells while it is idle
    for width in (800, 1400):
        page.resize(width)
        judge(page)


def use_by_keyboard(page: Page, url: str) -> None:
    """Runs the cells, fills in the form and moves the slider, all by keys."""
    visit(page, f"{url}doc/tree/notebooks/{CONTROLS}")
    page.evaluate("document.querySelector('.jp-Notebook .jp-Cell').focus()")
    page.press("Enter", shift=True)
    await_text(page, "This is my guess")
    page.press("Enter", shift=True)
    await_text(page, "Guess first: ")

    page.evaluate("document.querySelector('.lab-guess input').focus()")
    for number in ("2", "0.5"):
        tag, _, seen = page.evaluate(FOCUS)
        assert (tag, seen) == ("INPUT", True)
        page.call("Input.insertText", text=number)
        page.press("Tab")
    assert page.evaluate(FOCUS) == ["BUTTON", "This is my guess", True]
    page.press(" ")
    await_text(page, "✓ Guessed")

    page.evaluate("document.querySelectorAll('.jp-Notebook .jp-Cell')[1].focus()")
    for _ in CELLS[1:]:
        page.press("Enter", shift=True)
    await_text(page, "your guess")
    await_text(page, "2 of 3")
    page.evaluate("document.querySelector('[role=slider]').focus()")
    page.press("ArrowRight")
    await_text(page, "3 of 3")
    judge(page)


def visit(page: Page, url: str) -> None:
    page.open("about:blank")  # the browser complains if JupyterLab wants to ask whether to leave
    page.complaints.clear()
    page.call("Page.navigate", url=url)
    ready = "document.querySelectorAll('.jp-Notebook .jp-Cell').length > 0"
    eventually("the notebook is shown", lambda: page.probe(ready), within=WITHIN)
    idle = "document.querySelector('#jp-bottom-panel, #jp-main-statusbar')?.textContent.includes('(ipykernel) | Idle')"
    eventually("its kernel is ready", lambda: page.probe(idle), within=WITHIN)


def await_text(page: Page, text: str) -> None:
    eventually(f"{text} is shown", lambda: page.probe(TEXT), within=WITHIN, until=lambda seen: text in str(seen))


def judge(page: Page) -> None:
    """What is ours breaks no serious rule and is cut nowhere; nothing complains."""
    assert page.violations("serious", "critical", within=JUDGED) == []
    assert page.evaluate(CUT) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert errors(page) == []


def errors(page: Page) -> list[str]:
    """Complaints, but for JupyterLab's warnings that its plugins are slow on a busy machine."""
    return [each for each in page.complaints if "to activate" not in each]
