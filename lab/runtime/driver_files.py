"""What a driver in a container needs of this machine: the files of its run, and the plugins that this process knows."""

from __future__ import annotations

from pathlib import Path

from lab.registry import plugins


def files_for(run: Path) -> list[Path]:
    """The files to copy into one folder of the container."""
    return [*(path for path in run.iterdir() if path.is_file()), *plugins()]


def plugins_in(folder: str) -> str:
    """The value of :data:`lab.registry.PLUGINS` for a driver that finds the copies in this folder."""
    return ":".join(f"{folder}/{plugin.name}" for plugin in plugins())
