"""A lab that belongs to a notebook: it ends when the notebook's kernel does."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import LabNotRunningError
from lab.lab import Lab
from lab.ops.reaper import Reaper
from lab.runs import LoadOptions, RunResult, background_load

if TYPE_CHECKING:
    from lab.client.call import CallOutcome

_DEFAULT_NAME = "notebook"

_reapers: dict[Path, Reaper] = {}
"""Folder of each lab that this process has brought up → its guard, which is kept when a cell runs again."""


class WorkshopLab(Lab):
    """A lab, and a guard that takes it down when this process ends, also if it is killed.

    Its name is ``LAB_NAME``, or ``notebook``, by default.
    """

    def __init__(self, name: str = "", home: Path | None = None) -> None:
        super().__init__(name or os.environ.get("LAB_NAME", _DEFAULT_NAME), home)
        self._route_table: dict[str, Any] | None = None

    def up(self, **options: Any) -> list[CallOutcome]:
        """Brings the lab up, guarded; on processes unless ``LAB_RUNTIME`` is set. See :meth:`lab.lab.Lab.up`.

        Raises:
            LabError: the lab belongs to another notebook, or as there.
        """
        if self.folder not in _reapers:
            _reapers[self.folder] = Reaper(self.name, self.folder.parent.parent)
        runtime = "auto" if "LAB_RUNTIME" in os.environ else "process"
        return super().up(**{"runtime": runtime, **options})

    def down(self) -> int:
        """Takes the lab down, and dismisses its guard."""
        ended = super().down()
        if self.folder in _reapers:
            _reapers.pop(self.folder).dismiss()
        return ended

    def route_table(self) -> dict[str, Any]:
        """The route table in force; as it was last seen, while the control plane does not answer.

        Raises:
            LabNotRunningError: it was never seen.
        """
        try:
            self._route_table = self.routes.show().document or {}
        except LabNotRunningError:
            if self._route_table is None:
                raise
        return copy.deepcopy(self._route_table)

    def publish_document(self, document: Mapping[str, Any], *, comment: str = "", rushed: bool = False) -> int:
        """Publishes a route table that is not in a file; see :meth:`lab.ops.routes.Routes.publish`.

        Args:
            document: what a route table's file holds.
            comment: why.
            rushed: let rules go out before models and sidecars are ready for them.
        """
        file = self.folder / "workshop.json"  # removed with the lab
        file.write_text(json.dumps(document, indent=1))
        return self.routes.publish(file, comment=comment, unsafe_skip_phases=rushed)

    def loads(self, *options: LoadOptions, during: Callable[[], object] = lambda: None) -> list[RunResult]:
        """Drives several loads at the same time, and does something once all of them are answered.

        Raises:
            LabError: as :meth:`load`; errors of ``during`` pass through.
        """
        with background_load(self.load, *options) as runs:
            during()
            return [run.result() for run in runs]
