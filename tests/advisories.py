"""``python -m tests.advisories FOLDER`` holds the lock file against stored advisories, without a network.

The folder is a checkout of a database of advisories in OSV's format, such as https://github.com/pypa/advisory-database.
Exit status 1 if something that is pinned is known to be vulnerable. It is 2 if that cannot be told: an advisory cannot
be read, or the newest is so old that much may have been found since.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import Version

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
FRESH = timedelta(days=30)
"""What is older than this tells too little of what is known today."""

_NEVER = datetime.min.replace(tzinfo=UTC)
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


@dataclass(slots=True)
class Findings:
    """What came of it.

    Attributes:
        pinned: how many packages were looked up.
        advisories: how many there are for packages of Python, without those that were withdrawn.
        newest: when the latest of them was changed.
        found: ``package version: id (others), fixed in …``, one a line.
        unreadable: files, and why.
    """

    pinned: int = 0
    advisories: int = 0
    newest: datetime = _NEVER
    found: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def judge(lock: str, folder: Path) -> Findings:
    """Looks every pinned package up among the advisories in a folder."""
    pinned: dict[str, str] = {canonicalize_name(name): version for name, version in _PINNED.findall(lock)}
    findings = Findings(pinned=len(pinned))
    for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.json")]):
        try:
            advisory = _read(path)
            if not isinstance(advisory, dict) or "affected" not in advisory or advisory.get("withdrawn"):
                continue
            _take(advisory, pinned, findings)
        except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
            findings.unreadable.append(f"{path}: {type(error).__name__}: {error}")
    return findings


def _read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else yaml.load(text, yaml.CSafeLoader)


def _take(advisory: Mapping[str, Any], pinned: Mapping[str, str], findings: Findings) -> None:
    ours = [each for each in advisory["affected"] if each.get("package", {}).get("ecosystem") == "PyPI"]
    if not ours:
        return
    findings.advisories += 1
    findings.newest = max(findings.newest, _time(advisory["modified"]))
    for affected in ours:
        name = canonicalize_name(affected["package"]["name"])
        version = pinned.get(name)
        if version is not None and is_affected(version, affected):
            names = ", ".join([advisory["id"], *advisory.get("aliases", ())])
            fixed = ", ".join(dict.fromkeys(_fixed(affected))) or "no version"
            findings.found.append(f"{name} {version}: {names}; fixed in {fixed}")


def is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    """Whether a version is among those that an advisory lists, or in one of its ranges; by OSV's own rule.

    Raises:
        ValueError: a version is none of Python's.
    """
    if version in affected.get("versions", ()):
        return True
    at = Version(version)
    return any(_in_range(at, each["events"]) for each in _ranges(affected))


def _ranges(affected: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (each for each in affected.get("ranges", ()) if each["type"] == "ECOSYSTEM")


def _in_range(at: Version, events: list[Mapping[str, str]]) -> bool:
    inside = False
    for kind, text in sorted((item for event in events for item in event.items()), key=lambda item: _place(*item)):
        begins = text == "0" or Version(text) <= at
        if kind == "introduced" and begins:
            inside = True
        elif (kind == "fixed" and begins) or (kind == "last_affected" and Version(text) < at):
            inside = False
    return inside


def _place(kind: str, text: str) -> tuple[Version, bool]:
    """What ends a range at a version comes after what begins one there."""
    return Version("0.dev0" if text == "0" else text), kind != "introduced"


def _fixed(affected: Mapping[str, Any]) -> Iterator[str]:
    return (event["fixed"] for each in _ranges(affected) for event in each["events"] if "fixed" in event)


def _time(written: str | datetime) -> datetime:
    found = written if isinstance(written, datetime) else datetime.fromisoformat(written)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def main(arguments: list[str]) -> int:
    """Says what was found."""
    parser = argparse.ArgumentParser(prog="make audit ADVISORIES=…")
    parser.add_argument("folder", type=Path, help="checkout of a database of advisories in OSV's format")
    folder = parser.parse_args(arguments).folder
    findings = judge(LOCK.read_text(), folder)
    if not findings.advisories:
        sys.stderr.write(f"{folder}: holds no advisory for packages of Python; give a checkout's folder\n")
        return 2
    age = datetime.now(UTC) - findings.newest
    lines = [*findings.found, *(f"cannot be judged: {each}" for each in findings.unreadable)]
    lines.append(
        f"{findings.pinned} packages held against {findings.advisories} advisories, the newest of "
        f"{findings.newest:%Y-%m-%d}: {len(findings.found)} known to be vulnerable"
    )
    if age > FRESH:
        lines.append(f"unknown: the newest advisory is {age.days} days old, and says nothing of what was found since")
    sys.stdout.write("\n".join(lines) + "\n")
    if findings.found:
        return 1
    return 2 if findings.unreadable or age > FRESH else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
