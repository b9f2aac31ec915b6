"""The site builds without a warning; in a real browser nothing is cut, fetched from outside, or complains."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs import conf
from lab import CHECKOUT
from tests.browser import Page, chromium
from tests.docs_pages import PAGES

WIDTHS = (800, 1400)
# What a browser fetches by itself; a link waits for a reader.
_LOADED_FROM_OUTSIDE = re.compile(
    r"<(?:script|img|iframe|source|video)[^>]*src=[\"'](?:https?:)?//|<link[^>]*href=[\"'](?:https?:)?//"
)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder of the site that `make docs` builds, by the same command, and what the command said."""
    return built_in(tmp_path_factory.mktemp("site"))


def built_in(folder: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Builds the site."""
    command = ["-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "--builder", "html"]
    built = subprocess.run(
        [sys.executable, *command, "--doctree-dir", str(folder / "doctrees"), "docs", str(folder / "html")],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    return folder / "html", built


@pytest.fixture(scope="module")
def site(build: tuple[Path, subprocess.CompletedProcess[str]]) -> Path:
    """The folder of the site."""
    return build[0]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as found:
        yield found


def pages_of(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


@pytest.mark.timeout(300)
def test_the_pages_build_without_a_warning_and_need_no_network(
    build: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    site, built = build
    assert built.returncode == 0, built.stderr
    for file in pages_of(site):
        assert _LOADED_FROM_OUTSIDE.findall(file.read_text()) == [], file
    assert Path(conf.html_search_scorer).read_text() in (site / "_static/language_data.js").read_text()
    for file in site.rglob("*.css"):
        assert re.findall(r"url\(\s*[\"']?(?:https?:)?//", file.read_text()) == [], file


@pytest.mark.timeout(600)
def test_no_page_of_the_site_is_cut_asks_outside_or_complains(site: Path, page: Page) -> None:
    assert len(pages_of(site)) > len([each for each in PAGES if each.is_relative_to(CHECKOUT / "docs")]) / 2
    page.complaints.clear()
    page.requested.clear()
    found = {}
    for path in pages_of(site):
        page.open(path.as_uri(), width=WIDTHS[0])
        for width in WIDTHS:
            page.resize(width)
            found[path.name, width] = [*page.overflowing()]
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                found[path.name, width].append("the page scrolls sideways")
        found[path.name, 0] = [*page.violations("minor", "moderate", "serious", "critical")]

    assert {place: problems for place, problems in found.items() if problems} == {}
    assert page.complaints == []
    assert [url for url in page.requested if not url.startswith(site.as_uri())] == []
