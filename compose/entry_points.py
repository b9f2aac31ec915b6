#!/opt/lab/bin/python
"""Writes the entry points of a pyproject.toml where Python finds them: in the image, the lab is not installed.

Usage: entry_points.py PYPROJECT FOLDER, with the folder on Python's path
"""

import sys
import tomllib
from pathlib import Path

pyproject, folder = map(Path, sys.argv[1:])
project = tomllib.loads(pyproject.read_text())["project"]
name, version = project["name"].replace("-", "_"), project["version"]
installed = folder / f"{name}-{version}.dist-info"
installed.mkdir()
(installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n")
groups = project["entry-points"].items()
lines = [line for group, entries in groups for line in (f"[{group}]", *(f"{key} = {entries[key]}" for key in entries))]
(installed / "entry_points.txt").write_text("\n".join(lines) + "\n")
