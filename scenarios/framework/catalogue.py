"""The catalogue of scenarios, read from their source without a lab or pytest.

A scenario is a function ``test_…`` of a module ``test_*.py`` in ``scenarios/``, of a module that an entry point of the
group ``routing_lab.scenarios`` names, or of a plugin file. Its name is its claim in at most eight words; the first line
of its docstring says what it shows. Its mark ``scenario`` says the rest, in literals::

    @pytest.mark.scenario(takes_s=9, topologies=("mesh",), runtimes=("compose",))

``takes_s``: seconds that all its cases take on one topology. ``topologies``: those that it is about, or ``"rendered"``
for all whose proxy a renderer configures; a scenario with the fixture ``topology`` runs on all that follow the rules
unless it names some. ``runtimes``: those that it runs
on, all by default. ``long_on``: topologies on which it counts as long. ``alone``: whether it needs the machine to
itself, and therefore runs last; ``alone_on``: on these topologies only.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.registry import outside_files
from lab.runtime import RUNTIMES
from lab.topologies import TOPOLOGIES
from services.renderer.proxy import rendered_topologies

HERE = Path(__file__).parents[1]
MARK, LONG, SMOKE = "scenario", "long", "smoke"
_RENDERED = "rendered"
GROUP = "routing_lab.scenarios"

RESULT = "scenario.json"
"""Name of the file, in the folder that a scenario leaves, with its result."""


def known_topologies() -> tuple[str, ...]:
    """Topologies that scenarios can run on: those that follow the rules."""
    return tuple(each.name for each in TOPOLOGIES.values() if each.capabilities.follows_rules)


def default_topologies() -> tuple[str, ...]:
    """Topologies that scenarios run on unless ``--topology`` names others."""
    return tuple(name for name in known_topologies() if TOPOLOGIES[name].in_scenarios)


def long_topologies(runtime: str) -> tuple[str, ...]:
    """Topologies on which every scenario counts as long on this runtime.

    A container takes a second to start or to end, and these differ from another topology in what is read of a request,
    not in how units run.
    """
    return tuple(each.name for each in TOPOLOGIES.values() if runtime in each.long_scenarios_on)


def topologies_of(said: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The topologies that the arguments of a mark name; None if they name none."""
    about = said.get("topologies")
    return tuple(rendered_topologies()) if about == _RENDERED else about and tuple(about)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One scenario.

    Attributes:
        name: its function's name, which is its claim.
        module: name of its module, e.g. ``test_moves``.
        shows: what it shows, in a sentence.
        takes_s: declared seconds of all its cases on one topology.
        long: whether it runs only with ``--long``.
        long_on: topologies on which it runs only with ``--long``.
        smoke: whether continuous integration runs it on every change.
        each: whether it runs once for each of its topologies; else it runs once, with all of them.
        topologies: those that it is about.
        runtimes: those that it runs on.
        measured_s: runtime → topology (empty if it runs with all at once) → seconds of the latest passed run.
    """

    name: str
    module: str
    shows: str
    takes_s: float
    long: bool
    long_on: tuple[str, ...]
    smoke: bool
    each: bool
    topologies: tuple[str, ...]
    runtimes: tuple[str, ...]
    measured_s: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def claim(self) -> str:
        """The name in words."""
        return self.name.removeprefix("test_").replace("_", " ")

    @property
    def sets(self) -> list[str]:
        """The sets that it belongs to: ``smoke``, ``long``, or ``long on`` some topologies."""
        sometimes = f"{LONG} on {' and '.join(self.long_on)}"
        belongs = {SMOKE: self.smoke, LONG: self.long, sometimes: bool(self.long_on)}
        return [word for word, holds in belongs.items() if holds]

    def to_document(self) -> dict[str, Any]:
        """The entry as ``--json`` prints it."""
        return {"claim": self.claim, **asdict(self)}


def entries(folder: Path = HERE, runs: Path | None = None) -> list[Entry]:
    """All scenarios, module by module, in source order; those from outside come last.

    Args:
        folder: folder of their modules.
        runs: folder of earlier results, for the measured times; see :data:`RESULT`.

    Raises:
        LabError: a scenario lacks its mark, its docstring or its topologies, or its mark holds more than literals and
            names of the module's own literals.
    """
    measured = {} if runs is None else measurements(runs)
    return [
        _entry(module, function, constants, measured)
        for module in (*sorted(folder.glob("test_*.py")), *outside_files(GROUP))
        for body in [ast.parse(module.read_text()).body]
        for constants in [_constants(body)]
        for function in body
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_")
    ]


def results(runs: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The name of each session, which is the time when it began, and its results; the oldest session first.

    Args:
        runs: a folder with one folder for each session.
    """
    for session in sorted(path for path in runs.glob("*") if path.is_dir() and not path.is_symlink()):
        yield session.name, [json.loads(path.read_text()) for path in sorted(session.glob(f"*/*/{RESULT}"))]


def measurements(runs: Path) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
    """Seconds that scenarios took when they last passed: (module, name) → runtime → topology → seconds of all cases.

    Args:
        runs: as :func:`results`.
    """
    found: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for _, session in results(runs):
        sums: dict[tuple[str, str, str, str], float] = {}
        for result in session:
            if result["verdict"] == "valid":
                key = (result["module"], result["name"], result["runtime"], result["topology"])
                sums[key] = sums.get(key, 0.0) + result["took_s"]
        for (module, name, runtime, topology), took_s in sums.items():
            found.setdefault((module, name), {}).setdefault(runtime, {})[topology] = round(took_s, 1)
    return found


def _entry(
    file: Path,
    function: ast.FunctionDef,
    constants: Mapping[str, ast.expr],
    measured: Mapping[tuple[str, str], dict[str, dict[str, float]]],
) -> Entry:
    module = file.stem
    where = f"{file.parent.name}/{file.name}:{function.lineno}: {function.name}"
    try:
        marks = dict(_marks(function, constants))
    except ValueError as error:
        raise LabError(f"{where}: its mark holds more than literals; write the values out, as it is not run") from error
    said = marks.get(MARK, {})
    each = "topology" in {argument.arg for argument in function.args.args}
    shows = (ast.get_docstring(function) or "").partition("\n")[0]
    if "takes_s" not in said:
        raise LabError(f"{where}: does not declare how long it takes; mark it, e.g. pytest.mark.scenario(takes_s=5)")
    if not shows:
        raise LabError(f"{where}: does not declare what it shows; give it a docstring of one line")
    if not each and not said.get("topologies"):
        raise LabError(f"{where}: has no fixture topology; add topologies=(…) to its mark")
    return Entry(
        name=function.name,
        module=module,
        shows=shows,
        takes_s=said["takes_s"],
        long=LONG in marks,
        long_on=tuple(said.get("long_on", ())),
        smoke=SMOKE in marks,
        each=each,
        topologies=topologies_of(said) or default_topologies(),
        runtimes=tuple(said.get("runtimes", sorted(RUNTIMES))),
        measured_s=measured.get((module, function.name), {}),
    )


def _constants(body: Sequence[ast.stmt]) -> dict[str, ast.expr]:
    """What a module assigns to each single name."""
    assigned = (each for each in body if isinstance(each, ast.Assign))
    return {target.id: each.value for each in assigned for target in each.targets if isinstance(target, ast.Name)}


def _marks(function: ast.FunctionDef, constants: Mapping[str, ast.expr]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of pytest marks, with the keyword arguments of the mark ``scenario``."""
    for decorator in function.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        name = ast.unparse(call.func if call else decorator).removeprefix("pytest.mark.")
        own = name == MARK and call is not None
        yield name, {each.arg or "": _value(each.value, constants) for each in call.keywords} if own and call else {}


def _value(value: ast.expr, constants: Mapping[str, ast.expr]) -> Any:
    """A literal, or that of a name."""
    return ast.literal_eval(constants.get(value.id, value) if isinstance(value, ast.Name) else value)


def how_long(entry: Entry) -> str:
    """The declared time, e.g. ``9 s a topology``, with measured times where known."""
    declared = f"{entry.takes_s:g} s{' a topology' if entry.each and len(entry.topologies) > 1 else ''}"
    spans = [
        f"{runtime} {_span(list(by_topology.values()))} s" for runtime, by_topology in sorted(entry.measured_s.items())
    ]
    return f"{declared} ({', '.join(spans)})" if spans else declared


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low}-{high}"


def where(entry: Entry) -> str:
    """The topologies in words, e.g. ``each of gateway, mesh``."""
    listed = "all" if entry.topologies == default_topologies() else ", ".join(entry.topologies)
    return f"each of {listed}" if entry.each and len(entry.topologies) > 1 else listed


def page() -> str:
    """The catalogue as Markdown: ``docs/scenarios.md``."""
    listed = entries()
    parts = [_head()]
    for module in dict.fromkeys(each.module for each in listed):
        doc = ast.get_docstring(ast.parse((HERE / f"{module}.py").read_text())) or module
        parts.append(f"## {doc.partition(chr(10))[0].rstrip('.')}\n")
        parts.append(f"[scenarios/{module}.py](../scenarios/{module}.py)\n")
        parts += [_paragraph(each) for each in listed if each.module == module]
    return "\n".join(parts)


def _paragraph(entry: Entry) -> str:
    marks = "".join(f", {word}" for word in entry.sets)
    runtimes = "" if entry.runtimes == tuple(sorted(RUNTIMES)) else f", on {' and '.join(entry.runtimes)} only"
    return f"- **{entry.claim}.** {entry.shows}\n  *{where(entry)}; {how_long(entry)}{marks}{runtimes}*\n"


def _head() -> str:
    long = {runtime: ", ".join(names) for runtime in RUNTIMES if (names := long_topologies(runtime))}
    on = "; ".join(f"on {runtime}: {names}" for runtime, names in long.items())
    return f"""# Scenarios

Claims about topologies, each tried on a lab that is up. `make pages` writes this page from the scenarios' source;
`lab scenarios` lists the same, with the time that each took on this machine.

`make scenarios` runs all but the long ones, each on every topology that it is about; `make scenarios ARGS=--long` runs
those as well, and `make smoke` runs the few that continuous integration runs on every change. "All" stands for
{", ".join(default_topologies())}. Every scenario counts as long on these topologies, {on}. With
`ARGS='--topology gateway-header'`, scenarios that are long only on that topology run as well.

Two workers run scenarios at the same time. A scenario that fails only its rate claim is rerun in isolation at the end,
and its result says so. A late driver excuses no wrong or lost answer.

What the long ones showed last: [long scenarios](records/long-scenarios.md). The catalogue [ten times in a
row](records/ten-catalogues.md).
"""
