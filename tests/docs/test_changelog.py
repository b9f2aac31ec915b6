"""The changelog is one that a person reads: by release, ten lines each."""

import re
import tomllib

from lab import CHECKOUT

RELEASES = re.findall(
    r"^## (\S+) \(\d{4}-\d\d-\d\d\)\n\n(.+?)(?=\n\n## |\n*\Z)",
    (CHECKOUT / "CHANGELOG.md").read_text(),
    re.DOTALL | re.MULTILINE,
)


def test_a_release_takes_ten_lines_at_most() -> None:
    assert [name for name, text in RELEASES if len(text.splitlines()) > 10] == []


def test_the_newest_release_is_the_version_of_the_package() -> None:
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    versions = [tuple(map(int, name.split("."))) for name, _ in RELEASES]

    assert RELEASES[0][0] == version
    assert versions == sorted(set(versions), reverse=True)


def test_every_heading_is_a_release_but_that_of_the_next() -> None:
    headings = re.findall(r"^## (.*)", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert len(headings) == len(RELEASES) + (headings[0] == "Unreleased")
