"""What a lab wrote down about itself, so that the next command finds it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from lab.client import Endpoints
from lab.errors import LabError
from lab.spec import LabSpec
from lab.units import Plan, Unit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Running:
    """A started process: its id, and when it began, since ids are used again."""

    pid: int
    created: float


@dataclass(frozen=True, slots=True)
class LabState:
    """A lab that was started.

    Attributes:
        runtime: name of the runtime.
        spec_file: what it was made from.
        spec: what was read there, and then said on the command line.
        plan: its units and addresses.
        running: name of each started unit → its process.
    """

    runtime: str
    spec_file: str
    spec: LabSpec
    plan: Plan
    running: Mapping[str, Running] = field(default_factory=dict)

    @property
    def topologies(self) -> tuple[str, ...]:
        """What stands up."""
        return tuple(self.spec.topologies)

    @property
    def security(self) -> str:
        """How connections are secured."""
        return self.spec.security.mode

    def with_running(self, unit: str, running: Running) -> LabState:
        """The same, with one unit started."""
        return replace(self, running={**self.running, unit: running})

    def save(self, path: Path) -> None:
        """Writes it down so that a crash leaves either the old or the new."""
        scratch = path.with_suffix(".new")
        document = {**asdict(self), "spec": self.spec.model_dump(mode="json")}
        scratch.write_text(json.dumps(document, indent=1))
        scratch.replace(path)

    @classmethod
    def load(cls, path: Path) -> LabState | None:
        """What was written down; None if nothing was.

        Raises:
            LabError: the file is damaged.
        """
        try:
            raw = json.loads(path.read_text())
            units = tuple(Unit(**{**unit, "argv": tuple(unit["argv"])}) for unit in raw["plan"]["units"])
            callers = {name: Endpoints.from_document(each) for name, each in raw["plan"]["callers"].items()}
            return cls(
                runtime=raw["runtime"],
                spec_file=raw["spec_file"],
                spec=LabSpec.model_validate(raw["spec"]),
                plan=Plan(units, callers),
                running={name: Running(**each) for name, each in raw["running"].items()},
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LabError(f"{path}: damaged ({error}); run `lab down` to clean up, then `lab up`") from error
