"""Published notebooks are pages that need no network, and show pictures without what cannot be moved there."""

import re
import subprocess

import nbformat
from nbconvert import HTMLExporter

from lab import CHECKOUT
from lab.plugins.workshop.users import users_picture

WIDGET = "application/vnd.jupyter.widget-view+json"


def published(notebook: nbformat.NotebookNode) -> str:
    exporter = HTMLExporter(template_name="published", extra_template_basedirs=[str(CHECKOUT / "notebooks" / ".html")])
    return str(exporter.from_notebook_node(notebook)[0])


def test_a_page_fetches_nothing_and_follows_its_reader_into_the_dark() -> None:
    notebook = nbformat.read(CHECKOUT / "notebooks" / "0-first-look.ipynb", as_version=4)
    cell = notebook.cells[1]
    picture = users_picture(["v1", "v2"], title="Who gets what")
    cell.outputs = [
        nbformat.v4.new_output(
            "display_data", {WIDGET: {"model_id": "m", "version_major": 2}, "text/plain": "SelectionSlider(…)"}
        ),
        nbformat.v4.new_output("display_data", {"text/html": picture._repr_html_(), "text/plain": repr(picture)}),
    ]
    notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": {"m": {"state": {}}}}}

    page = published(notebook)

    assert "A first look" in page
    assert "Who gets what" in page
    assert "SelectionSlider" not in page
    assert "<script" not in page
    assert re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page) == []
    assert re.findall(r"""url\(["']?(?:https?:)?//|@import""", page) == []
    assert 'media="(prefers-color-scheme: dark)"' in page
    assert "data-jp-theme-light=" not in page.partition("<body")[2].partition(">")[0]


def test_make_publishes_with_that_template() -> None:
    command = ["make", "--dry-run", "--old-file=.venv/ready", "notebooks-html"]
    said = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout

    assert "--template published" in said
    assert "--execute" in said
    assert "docs/notebooks" in said
    assert "/docs/notebooks/" in (CHECKOUT / ".gitignore").read_text()
