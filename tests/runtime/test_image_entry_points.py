"""In the image, the lab is on Python's path and not installed; its plug-ins are found all the same."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import MetadataPathFinder
from pathlib import Path

from lab import CHECKOUT
from lab.plugins.locust.plan import NAME


def test_the_image_has_the_entry_points_of_the_checkout(tmp_path: Path) -> None:
    script = [sys.executable, "compose/entry_points.py", "pyproject.toml", str(tmp_path)]
    subprocess.run(script, cwd=CHECKOUT, check=True)

    [found] = MetadataPathFinder().find_distributions(MetadataPathFinder.Context(path=[str(tmp_path)]))

    assert found.name == "inference-routing-lab"
    engines = {entry.name: entry for entry in found.entry_points if entry.group == "routing_lab.engines"}
    assert engines[NAME].load().ENGINE.name == NAME
