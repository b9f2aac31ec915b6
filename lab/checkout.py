"""The folder of this checkout: where the route table, the Envoy templates, docs and runs lie."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
