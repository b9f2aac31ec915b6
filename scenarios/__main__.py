"""``python -m scenarios`` writes ``docs/scenarios.md``."""

from __future__ import annotations

from scenarios.framework.catalogue import HERE, page

if __name__ == "__main__":
    (HERE.parent / "docs" / "scenarios.md").write_text(page())
