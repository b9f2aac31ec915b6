"""The lock file against made-up advisories."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import advisories

LOCK = """\
grpcio==1.85.0 \\
    --hash=sha256:0
Typing_Extensions==4.12.2 ; python_version < "3.13" \\
    --hash=sha256:0
"""
NOW = datetime.now(UTC).isoformat()


def advisory(
    name: str = "grpcio", *, modified: str = NOW, versions: tuple[str, ...] = (), **events: str
) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": [{kind: version} for kind, version in events.items()]}] if events else []
    package = {"ecosystem": "PyPI", "name": name}
    affected = {"package": package, "versions": list(versions), "ranges": ranges}
    return {"id": "PYSEC-0000-1", "aliases": ["CVE-0000-1"], "modified": modified, "affected": [affected]}


def judged(folder: Path, *found: dict[str, Any]) -> advisories.Findings:
    for number, each in enumerate(found):
        path = folder / "vulns" / str(number) / f"{number}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(each))
    return advisories.judge(LOCK, folder)


@pytest.mark.parametrize(
    ("affected", "is_hit"),
    [
        ({"versions": ("1.85.0",)}, True),
        ({"versions": ("1.84.0",)}, False),
        ({"introduced": "0", "fixed": "1.86.0"}, True),
        ({"introduced": "0", "fixed": "1.85.0"}, False),
        ({"introduced": "1.85.0"}, True),
        ({"introduced": "1.85.1"}, False),
        ({"introduced": "0", "last_affected": "1.85.0"}, True),
        ({"introduced": "0", "last_affected": "1.84.9"}, False),
        ({"introduced": "1.9", "fixed": "1.100"}, True),  # as versions, and not as text
        ({"introduced": "1.85.0rc1", "fixed": "1.85"}, False),
        ({"name": "grpc-io", "introduced": "0"}, False),
    ],
)
def test_a_version_is_hit_if_it_is_listed_or_in_a_range(tmp_path: Path, affected: dict[str, Any], is_hit: bool) -> None:  # noqa: FBT001
    findings = judged(tmp_path, advisory(**affected))

    assert bool(findings.found) == is_hit, findings
    assert (findings.pinned, findings.advisories, findings.unreadable) == (2, 1, [])


def test_names_are_compared_as_the_index_does_and_findings_name_the_fix(tmp_path: Path) -> None:
    findings = judged(tmp_path, advisory("typing.extensions", introduced="4.0", fixed="4.13"))

    assert findings.found == ["typing-extensions 4.12.2: PYSEC-0000-1, CVE-0000-1; fixed in 4.13"]


def test_withdrawn_and_foreign_advisories_do_not_count(tmp_path: Path) -> None:
    withdrawn = {**advisory(introduced="0"), "withdrawn": NOW}
    elsewhere = advisory(introduced="0")
    elsewhere["affected"][0]["package"]["ecosystem"] = "npm"

    assert judged(tmp_path, withdrawn, elsewhere) == advisories.Findings(pinned=2)


@pytest.mark.parametrize(
    ("found", "status", "said"),
    [
        ([advisory(introduced="2.0")], 0, "0 known to be vulnerable"),
        ([advisory(introduced="0")], 1, "grpcio 1.85.0: PYSEC-0000-1"),
        ([advisory(introduced="no version")], 2, "cannot be judged"),
        (
            [advisory(introduced="2.0", modified=(datetime.now(UTC) - timedelta(days=400)).isoformat())],
            2,
            "unknown: the newest advisory is 400 days old",
        ),
        ([], 2, "holds no advisory"),
    ],
)
def test_the_exit_status_says_clean_hit_or_unknown(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: list[dict[str, Any]],
    status: int,
    said: str,
) -> None:
    (tmp_path / "requirements.lock").write_text(LOCK)
    monkeypatch.setattr(advisories, "LOCK", tmp_path / "requirements.lock")
    folder = tmp_path / "database"
    folder.mkdir()
    for number, each in enumerate(found):
        (folder / f"{number}.json").write_text(json.dumps(each))

    assert advisories.main([str(folder)]) == status
    output = capsys.readouterr()
    assert said in output.out + output.err
