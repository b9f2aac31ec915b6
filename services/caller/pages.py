"""What each caller's page is made of. To add a caller is to add an entry, or to give a plan in its configuration."""

from __future__ import annotations

# Stages one after the other; the use cases of a stage side by side.
Plan = tuple[tuple[str, ...], ...]

PAGES: dict[str, Plan] = {
    "homepage": (("HomepageRows", "ContinueWatchingRanking"),),
    "search": (("SearchRanking",),),
    "playback": (("UpNext",),),
    "payments": (("FraudDetection",),),
    "recommendations": (("ContinueWatchingRanking",),),
}
