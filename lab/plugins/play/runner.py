"""Plays acts on a lab, one after the other, and leaves the lab as it was, also when it is interrupted."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import InputError, LabError, LabNotRunningError
from lab.plugins.play.finding import Finding
from lab.plugins.play.keys import Keys
from lab.plugins.play.recording import begins
from lab.plugins.play.stage import Stage
from lab.runtime.state import LabState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.lab import Lab
    from lab.plugins.play.act import Act
    from lab.plugins.play.recording import Recording

TOPOLOGIES = ("direct", "gateway", "mesh")
"""Of the lab that is brought up where none is."""


def play(lab: Lab, acts: Sequence[Act], recording: Recording, *, pause_s: float, clusters: int) -> dict[str, Finding]:
    """Plays the acts; returns what each found, by its name.

    Args:
        lab: if it is down, it is brought up, and taken down at the end.
        acts: in order.
        recording: takes what happens.
        pause_s: time to read a figure, where anybody can pause.
        clusters: of the scale lab of the last act; 0 to show a recorded run.

    Raises:
        InputError: a fault is in force.
        KeyboardInterrupt: by Ctrl-C, once what was injected is healed and the route table is as before.
    """
    found: dict[str, Finding] = {}
    how = "stopped"
    with ExitStack() as after:
        recording.add("begins", **begins(acts, ""))
        after.callback(lambda: recording.add("ended", how=how))
        if _is_down(lab):
            after.callback(lab.down)
            recording.add("doing", text="no lab is up: bringing one up, which is taken down at the end")
            lab.up(topologies=TOPOLOGIES)
        if active := lab.faults.active():
            raise InputError(
                f"lab play: {active[0].id} is in force, and would spoil the figures; `lab fault heal` first"
            )
        stage = Stage(
            lab,
            lambda text: recording.add("doing", text=text),
            lambda text: recording.add("live", text=text),
            clusters=clusters,
        )
        after.callback(stage.restore)
        keys = after.enter_context(Keys(lambda paused: recording.add("paused" if paused else "resumed")))
        for act in acts:
            keys.wait(pause_s if found else 0)
            recording.add("act", act=act.name)
            found[act.name] = _with_short_names(played(act, stage), lab)
            recording.add("found", act=act.name, **found[act.name].to_document())
        how = "done"
    return found


def played(act: Act, stage: Stage) -> Finding:
    """Plays an act. What a busy machine did not show is tried once more; one that fails spoils no other."""
    if missing := [each for each in act.needs if each not in stage.topologies]:
        why = f"this lab has no topology {missing[0]}"
        return Finding(figure="not played", shown=False, basis="", doubt=why)
    try:
        if (found := act.play(stage)).shown:
            return found
        stage.doing(f"{found.figure}, not as the talk says{found.doubt and f' ({found.doubt})'}: once more")
        return act.play(stage)
    except LabNotRunningError:
        raise
    except LabError as error:
        return replace(Finding(figure="not shown", shown=False, basis=""), doubt=str(error))


def _with_short_names(found: Finding, lab: Lab) -> Finding:
    """With folders of runs as a user names them, as a recording may be read elsewhere."""
    home = lab.runs.parent.parent
    names = (Path(run).relative_to(home) if Path(run).is_relative_to(home) else run for run in found.runs)
    return replace(found, runs=tuple(map(str, names)))


def _is_down(lab: Lab) -> bool:
    try:
        LabState.of(lab.folder)
    except LabNotRunningError:
        return True
    return False
