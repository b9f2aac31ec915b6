"""The site's search ranks pages above decisions and records."""

import json
import shutil
import subprocess
from pathlib import Path

from docs import conf
from tests.missing import missing

# As Sphinx calls it: page, title, anchor, description, score, file, kind.
RESULTS = [
    ["decisions/0008-a-rollout-is-a-series-of-revisions", "8. A rollout", "", None, 16, "0008.md", "title"],
    ["decisions/index", "Decisions", "", None, 7, "index.md", "text"],
    ["records/refusals", "Refusals", "", None, 40, "refusals.md", "title"],
    ["changelog", "Changelog", "", None, 30, "changelog.md", "text"],
    ["publishing", "Publishing", "", None, 2, "publishing.md", "text"],
    ["extending/bench", "A bench", "", None, 5, "bench.md", "text"],
]


def test_pages_come_before_decisions_and_each_group_keeps_its_order() -> None:
    node = shutil.which("node") or missing("there is no node; on Debian, `make grpc-js` installs it")
    scorer = Path(conf.html_search_scorer).read_text()
    script = f"{scorer}; console.log(JSON.stringify({json.dumps(RESULTS)}.map(Scorer.score)))"
    found = json.loads(subprocess.run([node, "-e", script], capture_output=True, text=True, check=True).stdout)

    ranked = [page for _, page in sorted(zip(found, [each[0] for each in RESULTS], strict=True), reverse=True)]
    assert ranked == [
        "extending/bench",
        "publishing",
        "records/refusals",
        "changelog",
        RESULTS[0][0],
        "decisions/index",
    ]
