"""``python -m scenarios`` writes ``docs/scenarios.md``; ``--long``: writes the results of long scenarios instead."""

from __future__ import annotations

import sys

from scenarios.framework import long_record
from scenarios.framework.catalogue import HERE, page

if __name__ == "__main__":
    if "--long" in sys.argv[1:]:
        long_record.PAGE.write_text(long_record.page(HERE.parent / "runs" / "scenarios"))
    else:
        (HERE.parent / "docs" / "scenarios.md").write_text(page())
