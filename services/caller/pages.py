"""Use cases that make up each caller's page. A new caller needs an entry here, or a plan in its configuration."""

from __future__ import annotations

# Stages run one after the other; the use cases of a stage in parallel.
Plan = tuple[tuple[str, ...], ...]

PAGES: dict[str, Plan] = {
    "homepage": (("HomepageRows", "ContinueWatchingRanking"),),
    "search": (("SearchRanking",),),
    "playback": (("UpNext",),),
    "payments": (("FraudDetection",),),
    "recommendations": (("ContinueWatchingRanking",),),
}
