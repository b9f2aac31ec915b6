"""Every message that docs/troubleshooting.md quotes is still one that the lab can say."""

import ast
import re
from functools import cache

import pytest

from lab import CHECKOUT

PAGE = (CHECKOUT / "docs" / "troubleshooting.md").read_text()
ENTRIES = re.findall(r"^### `([^\n]+)`\n\n(.+?)(?=\n##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
GAP = "…"


@cache
def messages() -> tuple[str, ...]:
    """All strings of the code, with a gap for each value that is filled in, and the lines of Envoy's bootstraps."""
    found: list[str] = []
    for room in ("lab", "services", "models"):
        for path in (CHECKOUT / room).rglob("*.py"):
            if "_pb2" not in path.name:
                found += _strings(path.read_text())
    for path in (CHECKOUT / "envoy").glob("*.yaml"):
        found += path.read_text().splitlines()
    return tuple(found)


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
    assert any(says(message, heading) for message in messages()), heading


def test_every_entry_says_what_to_do() -> None:
    assert len(ENTRIES) >= 25
    assert [heading for heading, text in ENTRIES if "**Remedy:**" not in text] == []


def test_a_message_that_nobody_says_is_not_found() -> None:
    assert not any(says(message, "the moon is … cheese") for message in messages())
