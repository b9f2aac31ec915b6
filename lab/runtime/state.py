"""What a lab wrote down about itself, so that the next command finds it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from lab.client import Endpoints
from lab.errors import LabError, LabNotRunningError
from lab.plan import Plan
from lab.registry import restore_plugins
from lab.roles import Port, Unit
from lab.runtime.identities import Identities
from lab.spec import LabSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any


STATE_FILE = "state.json"
"""In the lab's folder."""
PRIVATE = 0o600
"""Mode of files that may hold a password: that of the store."""


@dataclass(frozen=True, slots=True)
class Running:
    """A started unit.

    Attributes:
        pid: of its process; 0 if it is a container.
        created: when that process began, since ids are used again.
        container: id of its container, if it is one.
    """

    pid: int = 0
    created: float = 0.0
    container: str = ""


@dataclass(frozen=True, slots=True)
class LabState:
    """A lab that was started.

    Attributes:
        runtime: name of the runtime.
        spec_file: what it was made from.
        spec: what was read there, and then said on the command line.
        plan: its units and addresses.
        running: name of each started unit → what it runs as.
    """

    runtime: str
    spec_file: str
    spec: LabSpec
    plan: Plan
    running: Mapping[str, Running] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> LabState:
        """What the lab in that folder wrote down.

        Raises:
            LabNotRunningError: it is not up.
            LabError: the file is damaged.
        """
        state = cls.load(folder / STATE_FILE)
        if state is None:
            raise LabNotRunningError(f"lab {folder.name} is not up: run `lab up` (or name another with --name)")
        return state

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

    def with_plan(self, plan: Plan) -> LabState:
        """The same, laid out anew; what runs and is not in the plan any more is forgotten."""
        names = {unit.name for unit in plan.units}
        return replace(self, plan=plan, running={name: each for name, each in self.running.items() if name in names})

    def save(self, path: Path) -> None:
        """Writes it down so that a crash leaves either the old or the new; this process can reach its units then."""
        scratch = path.with_suffix(".new")
        document = {**asdict(self), "spec": self.spec.model_dump(mode="json")}
        scratch.touch(mode=PRIVATE)
        scratch.write_text(json.dumps(document, indent=1))
        scratch.replace(path)
        self.introduce(path.parent)

    def introduce(self, folder: Path) -> None:
        """Lets this process reach the units of the lab in that folder."""
        Identities(folder).introduce(self.plan.units, self.security)

    @classmethod
    def load(cls, path: Path) -> LabState | None:
        """What was written down, whose units this process can reach then; None if nothing was.

        Raises:
            LabError: the file is damaged.
        """
        restore_plugins(path.parent)
        try:
            state = _parsed(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LabError(f"{path}: damaged ({error}); run `lab down` to clean up, then `lab up`") from error
        state.introduce(path.parent)
        return state


@lru_cache(maxsize=8)  # a lab is looked at fifty times a second while it is waited for, and seldom changes
def _parsed(text: str) -> LabState:
    raw = json.loads(text)
    callers, clients = (
        {name: Endpoints.from_document(each) for name, each in raw["plan"][whose].items()}
        for whose in ("callers", "clients")
    )
    units = tuple(_unit(each) for each in raw["plan"]["units"])
    return LabState(
        runtime=raw["runtime"],
        spec_file=raw["spec_file"],
        spec=LabSpec.model_validate(raw["spec"]),
        plan=Plan(units, callers, clients),
        running={name: Running(**each) for name, each in raw["running"].items()},
    )


def _unit(document: Mapping[str, Any]) -> Unit:
    admin, rest = document["admin"], document.get("rest")
    return Unit(
        **{
            **document,
            "argv": tuple(document["argv"]),
            "together": tuple(document.get("together", ())),
            "port": Port(**document["port"]),
            "admin": None if admin is None else Port(**admin),
            "rest": None if rest is None else Port(**rest),
        }
    )
