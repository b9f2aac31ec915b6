"""The page as a whole: complete, self-contained, and never written by what it shows."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from lab.errors import RunError
from lab.history import Record
from lab.report import read_run, render, write_report
from lab.report.page import templates
from lab.report.picture import scripts
from lab.report.sections import SECTIONS
from tests.lab_command import run_lab
from tests.report.builders import make_record, write_run

FETCHES = {"src", "href", "srcset", "data", "action", "poster"}


class Page(HTMLParser):
    """What a browser would make of it, roughly."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.fixture
def wrong() -> list[Record]:
    """A run in which every tenth answer is another version's."""
    return [make_record(each, version="v1" if each % 10 else "v2", routing_key="") for each in range(400)]


def test_a_page_has_every_section_of_every_run(tmp_path: Path, wrong: list[Record]) -> None:
    runs = [
        read_run(write_run(tmp_path, name="good"), number=1),
        read_run(write_run(tmp_path, wrong, name="bad", topology="direct"), number=2),
    ]

    page = Page(render(runs))

    for name in SECTIONS:
        assert ("id", name) in page.attributes
    for found in ("lab/good", "lab/bad", "1 mesh", "2 direct", "n = 400", "✗ invalid", "schedule delay p99", "1.85.3"):
        assert found in page.text
    assert page.text.index("invalid") < page.text.index("p99.9")
    assert page.text.count("wants rows@v1") == 20
    assert "routing: 40 violations, of which the first 20" in page.text
    # What mesh adds to direct; one curve for all; two time lines each; a spread for each version that answered.
    assert page.tags.count("svg") == 1 + 1 + 4 + 2


def test_a_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    html = render([read_run(write_run(tmp_path))])

    page = Page(html)

    assert {"link", "img", "iframe"}.isdisjoint(page.tags)
    assert {value[:1] for name, value in page.attributes if name in FETCHES and value} == {"#"}, "only places in it"
    assert html.count(scripts()) == 1
    own = html.replace(scripts(), "")
    assert set(re.findall(r"url\((.)", own)) == {"#"}
    assert "@import" not in own
    assert set(re.findall(r"https?://[^/\"]+", own)) <= {"http://www.w3.org", "https://vega.github.io"}, (
        "names, not addresses"
    )
    assert '"url":' not in own, "no data of a chart is elsewhere"


def test_charts_are_well_formed(tmp_path: Path) -> None:
    html = render([read_run(write_run(tmp_path))])

    for part in html.replace(scripts(), "").split("<svg")[1:]:
        ET.fromstring("<svg" + part.split("</svg>")[0] + "</svg>")  # noqa: S314 (our own)


def test_a_message_is_shown_as_text(tmp_path: Path) -> None:
    message = "<script>alert('x')</script>"
    records = [make_record(each, status="UNAVAILABLE", message=message) for each in range(400)]

    page = Page(render([read_run(write_run(tmp_path, records))]))

    harmless = Page(
        render(
            [read_run(write_run(tmp_path, [make_record(each, status="UNAVAILABLE") for each in range(400)], name="b"))]
        )
    )
    assert page.tags.count("script") == harmless.tags.count("script")
    assert message in page.text
    assert "No request was answered." in page.text


def test_charts_of_a_page_clip_by_paths_of_their_own(tmp_path: Path) -> None:
    html = render([read_run(write_run(tmp_path))]).replace(scripts(), "")

    for chart in html.split('<div class="chart">')[1:]:
        own = re.findall(r'<clipPath id="([^"]+)"', chart)
        assert set(re.findall(r"url\(#([^)]+)\)", chart)) <= set(own)
    paths = re.findall(r'<clipPath id="([^"]+)"', html)
    assert len(set(paths)) == len(paths) > 0


@pytest.mark.parametrize("status", ["UNSENT", None])
def test_a_run_that_sent_nothing_is_shown_as_one(status: str | None, tmp_path: Path) -> None:
    records = [make_record(each, status=status) for each in range(400)] if status else []

    page = Page(render([read_run(write_run(tmp_path, records))]))

    assert "n = 0 sent of 400 planned" in page.text
    assert "svg" not in page.tags


def test_the_same_folders_give_the_same_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path)

    assert render([read_run(folder)]) == render([read_run(folder)])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("plan.json", None),
        ("history.parquet", "no parquet"),
        ("revisions.json", None),
        ("revisions.json", "{"),
        ("revisions.json", '[{"revision": 1}]'),
        ("versions.json", None),
        ("versions.json", "[]"),
    ],
)
def test_a_broken_folder_is_one_line(file: str, content: str | None, tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    (folder / file).unlink() if content is None else (folder / file).write_text(content)

    with pytest.raises(RunError, match=file) as caught:
        read_run(folder)

    assert "\n" not in str(caught.value)


def test_a_report_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--output"):
        write_report([read_run(write_run(tmp_path))], tmp_path / "nowhere" / "report.html")


def test_the_command_writes_into_the_first_folder(tmp_path: Path) -> None:
    first, second = write_run(tmp_path, name="one"), write_run(tmp_path, name="two")

    result = run_lab(None, "report", first, second, "--json")

    assert json.loads(result.stdout) == {"report": str(first / "report.html")}
    assert "lab/two" in (first / "report.html").read_text(encoding="utf-8")


def test_the_command_writes_to_the_given_output(tmp_path: Path) -> None:
    result = run_lab(None, "report", write_run(tmp_path), "--output", tmp_path / "here.html")

    assert str(tmp_path / "here.html") == result.stdout.strip()
    assert (tmp_path / "here.html").exists()


def test_an_error_of_the_command_is_one_line(tmp_path: Path) -> None:
    result = run_lab(None, "report", tmp_path / "nothing", "--json")

    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (3, "", 1)
    assert "nothing: there is no run; `lab runs` lists them" in result.stderr


def test_no_line_ends_at_the_hyphens_of_an_option() -> None:
    page = templates.from_string("{{ text | code }}").render(text="try `lab bench topologies --rounds 14` -- <now>")

    assert page == ('try <code>lab bench topologies <span class="named">--rounds</span> 14</code> -- &lt;now&gt;')
