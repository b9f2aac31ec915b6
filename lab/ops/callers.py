"""``lab.callers``: by which topology each caller sends its own requests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.errors import InputError, LabError
from lab.reading import read_json
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.runtime.context import LabContext

_FILE = "callers.json"
"""In the lab's folder: the topologies that callers use in place of their spec's."""


class Callers:
    """The topologies that the callers of one lab use: those of the spec, until they are moved.

    ``lab load --topology own`` drives each caller by its own, and follows a change while it runs.
    """

    def __init__(self, context: LabContext) -> None:
        self._context = context

    def show(self) -> dict[str, str]:
        """The topology of each caller."""
        state = self._context.state()
        chosen = {name: each.topology or state.topologies[0] for name, each in state.spec.callers.items()}
        return {**chosen, **{name: used for name, used in self.moved().items() if name in chosen}}

    def use(self, topology: str, callers: Sequence[str]) -> dict[str, str]:
        """Moves callers, all if none is named, to a topology; returns the topology of each caller.

        Raises:
            InputError: the lab has no such caller or topology.
        """
        state, now = self._context.state(), self.show()
        TOPOLOGIES[topology]  # raises for an unknown one
        if topology not in state.topologies:
            raise InputError(f"topology {topology!r} is not up; there are {', '.join(state.topologies)}")
        for each in callers:
            if each not in now:
                raise InputError(f"caller {each!r} is not in this lab; there are {', '.join(now)}")
        now |= dict.fromkeys(callers or now, topology)
        path = self._context.folder / _FILE
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(now))
        scratch.replace(path)
        return now

    def moved(self) -> dict[str, str]:
        """The topology of each caller, once any was moved; empty before that."""
        path = self._context.folder / _FILE
        try:
            found = read_json(path)
            return {str(name): TOPOLOGIES[topology].name for name, topology in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise LabError(f"{path}: damaged ({error}); remove it, and callers use their spec's topologies") from error
