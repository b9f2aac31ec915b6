"""Fields of the evidence that no checker judges, and why; ``tests/checkers/test_fields.py`` finds any other."""

from __future__ import annotations

from collections.abc import Mapping

OF_RECORDS: Mapping[str, str] = {
    "message": "it is for people; the status is judged",
    "served_revision": "the revision by which a replica had loaded its version says nothing of the answer; *staleness* "
    "looks at it where the version has moved since",
}
"""Field of :class:`lab.history.Record` → why nothing judges its value."""

OF_ARRIVALS: Mapping[str, str] = {}
"""Field of :class:`lab.history.arrivals.Arrival` → likewise."""
