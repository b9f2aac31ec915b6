"""The state of a lab, as a file in its folder: one command writes it, the next one reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from lab import clock
from lab.client import Endpoints
from lab.errors import LabError, LabNotRunningError
from lab.reading import parse_json, read_text
from lab.registry import restore_plugins
from lab.roles import Plan, Port, Unit
from lab.runtime.identities import Identities
from lab.spec import LabSpec

STATE_FILE = "state.json"
"""In the lab's folder."""
PRIVATE = 0o600
"""File mode of files that may hold the password of the store."""


@dataclass(frozen=True, slots=True)
class Running:
    """A started unit.

    Attributes:
        pid: process id; 0 for a container.
        created: when that process began, in seconds since the machine did: process ids are reused.
        container: container id; empty for a process.
    """

    pid: int = 0
    created: float = 0.0
    container: str = ""


@dataclass(frozen=True, slots=True)
class LabState:
    """A lab that was started.

    Attributes:
        runtime: name of the runtime.
        spec_file: the file that its spec came from.
        spec: the spec, with the command line's options applied.
        plan: its units and addresses.
        running: started unit → its process or container.
    """

    runtime: str
    spec_file: str
    spec: LabSpec
    plan: Plan
    running: Mapping[str, Running] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> LabState:
        """The state of the lab in a folder.

        Raises:
            LabNotRunningError: the lab is not up.
            LabError: the file is damaged.
        """
        state = cls.load(folder / STATE_FILE)
        if state is None:
            raise LabNotRunningError(f"lab {folder.name} is not up: run `lab up` (or name another with --name)")
        return state

    @property
    def topologies(self) -> tuple[str, ...]:
        """The lab's topologies."""
        return tuple(self.spec.topologies)

    @property
    def security(self) -> str:
        """The security mode: ``mtls`` or ``plaintext``."""
        return self.spec.security.mode

    def with_running(self, unit: str, running: Running) -> LabState:
        """The same state with one more started unit."""
        return replace(self, running={**self.running, unit: running})

    def with_plan(self, plan: Plan) -> LabState:
        """The same state with another plan; started units that are not in it are left out."""
        names = {unit.name for unit in plan.units}
        return replace(self, plan=plan, running={name: each for name, each in self.running.items() if name in names})

    def save(self, path: Path) -> None:
        """Writes the file atomically, and registers the units' credentials in this process."""
        scratch = path.with_suffix(".new")
        document = {**asdict(self), "spec": self.spec.model_dump(mode="json")}
        scratch.touch(mode=PRIVATE)
        scratch.write_text(json.dumps(document, indent=1))
        scratch.replace(path)
        self.register(path.parent)

    def register(self, folder: Path) -> None:
        """Lets this process follow the clock of the lab in that folder, and registers credentials for its units."""
        clock.follow(self.spec.clock)
        Identities(folder).register(self.plan.units, self.security)

    @classmethod
    def load(cls, path: Path) -> LabState | None:
        """Reads a state file, and registers the units' credentials in this process; None if there is no file.

        Raises:
            LabError: the file is damaged.
        """
        restore_plugins(path.parent)
        try:
            state = _parsed(read_text(path))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise LabError(f"{path}: damaged ({error}); run `lab down` to clean up, then `lab up`") from error
        state.register(path.parent)
        return state


def clock_of(path: Path) -> str:
    """Returns the clock of the lab with that state file, and registers nothing; empty if it has none."""
    try:
        return str(parse_json(read_text(path))["spec"].get("clock", ""))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""


@lru_cache(maxsize=8)  # a command that waits for a lab reads its state fifty times a second; it seldom changes
def _parsed(text: str) -> LabState:
    raw = parse_json(text)
    callers, clients = (
        {name: Endpoints.from_document(each) for name, each in raw["plan"][whose].items()}
        for whose in ("callers", "clients")
    )
    units = tuple(_unit(each) for each in raw["plan"]["units"])
    return LabState(
        runtime=raw["runtime"],
        spec_file=raw["spec_file"],
        spec=LabSpec.model_validate(raw["spec"]),
        plan=Plan(units, callers, clients, raw["plan"].get("load_metrics", "")),
        running={name: Running(**each) for name, each in raw["running"].items()},
    )


def _unit(document: Mapping[str, Any]) -> Unit:
    return Unit(
        **{
            **document,
            "argv": tuple(document["argv"]),
            "aliases": tuple(document.get("aliases", ())),
            **{
                name: Port(**document[name])
                for name in ("port", "admin", "rest", "metrics", "relay")
                if document.get(name)
            },
        }
    )
