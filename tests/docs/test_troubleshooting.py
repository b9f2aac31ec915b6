"""Every message that docs/troubleshooting.md quotes is still one that the lab can say."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from lab import CHECKOUT

PAGE = (CHECKOUT / "docs" / "troubleshooting.md").read_text()
ENTRIES = re.findall(r"^### `([^\n]+)`\n\n(.+?)(?=\n##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
GAP = "…"


@cache
def texts() -> dict[Path, str]:
    """The text of every file that can hold a message, by its path."""
    modules = (path for room in ("lab", "services", "models") for path in (CHECKOUT / room).rglob("*.py"))
    written = (path for path in modules if "_pb2" not in path.name)
    return {path: path.read_text() for path in (*written, *(CHECKOUT / "envoy").glob("*.yaml"))}


def messages(heading: str) -> Iterator[str]:
    """Strings of the files that hold the longest word of a heading."""
    longest = max(re.findall(r"\w+", heading), key=len)
    for path, text in texts().items():
        if longest in text:
            yield from strings(path)


@cache
def strings(path: Path) -> list[str]:
    """All strings of a module, with a gap for each value that is filled in; the lines of Envoy's bootstrap."""
    return _strings(texts()[path]) if path.suffix == ".py" else texts()[path].splitlines()


def _strings(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else GAP for part in node.values)
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


def says(message: str, heading: str) -> bool:
    """Whether a heading's words stand in a message in their order; backticks, which no heading holds, are quotes."""
    message, at = message.replace("`", "'"), 0
    for part in heading.split(GAP):
        found = message.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True


@pytest.mark.parametrize("heading", [heading for heading, _ in ENTRIES])
def test_the_lab_still_says_so(heading: str) -> None:
    assert any(says(message, heading) for message in messages(heading)), heading


def test_every_entry_says_what_to_do() -> None:
    assert len(ENTRIES) >= 25
    assert [heading for heading, text in ENTRIES if "**Remedy:**" not in text] == []


def test_a_message_that_nobody_says_is_not_found() -> None:
    heading = "the control plane is … cheese"
    assert not any(says(message, heading) for message in messages(heading))
