"""Which scenarios there are, read from their source: no lab is needed, nor is pytest.

A scenario is a function ``test_…`` of a module ``test_*.py`` here. Its name is its claim, and the first line of its
docstring says what it shows. Its mark ``scenario`` says the rest, in literals::

    @pytest.mark.scenario(takes_s=9, topologies=("mesh",), runtimes=("compose",))

``takes_s`` is how long all its cases take on one topology, seconds. ``topologies`` are those that it is about; where it
has the fixture ``topology``, all that follow the rules unless said otherwise. ``runtimes`` are all, likewise. On
topologies that ``long_on`` names it is one of the long ones; on those of ``alone_on`` it waits until it has the machine
for itself, and comes last therefore.
"""

from __future__ import annotations

import ast
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HERE = Path(__file__).parents[1]
TOPOLOGIES = ("gateway", "gateway-passthrough", "gateway-header", "mesh", "proxyless")
"""What scenarios are about: every way that follows the rules. ``mesh-unleased`` does too, and may be asked for."""
RUNTIMES = ("process", "compose")
LONG_ON = {"process": (), "compose": ("gateway-passthrough", "gateway-header")}
"""Runtime → topologies on which every scenario is one of the long ones: a container takes a second to start or to end,
and these differ from ``gateway`` in what is read of a request, and not in how units run."""
MARK, LONG, SMOKE = "scenario", "long", "smoke"

RESULT = "scenario.json"
"""In the folder that a scenario leaves: what came of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One scenario.

    Attributes:
        name: of its function, which is its claim.
        module: where it stands, e.g. ``test_moves``.
        shows: what there is to see, in a sentence.
        takes_s: declared, for all its cases on one topology, seconds.
        long: whether it is left out unless it is asked for.
        long_on: topologies on which it is.
        smoke: whether continuous integration runs it on every change.
        each: whether it runs once for each of its topologies; else it takes them all at once.
        topologies: that it is about.
        runtimes: that it runs on.
        measured_s: runtime → topology, empty if it takes them all at once → seconds in the last run that is known.
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
        """Those that it belongs to: ``smoke``, ``long``, or that on some topologies."""
        sometimes = f"{LONG} on {' and '.join(self.long_on)}"
        belongs = {SMOKE: self.smoke, LONG: self.long, sometimes: bool(self.long_on)}
        return [word for word, holds in belongs.items() if holds]

    def to_document(self) -> dict[str, Any]:
        """As ``--json`` has it."""
        return {"claim": self.claim, **asdict(self)}


def entries(folder: Path = HERE, runs: Path | None = None) -> list[Entry]:
    """All scenarios, module by module, in the order in which they are written.

    Args:
        folder: where their modules are.
        runs: where scenarios have left what came of them, for how long each took; see :data:`RESULT`.

    Raises:
        LabError: a scenario does not say of itself what it must.
    """
    measured = {} if runs is None else measurements(runs)
    return [
        _entry(module.stem, function, measured)
        for module in sorted(folder.glob("test_*.py"))
        for function in ast.parse(module.read_text()).body
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_")
    ]


def measurements(runs: Path) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
    """How long scenarios took when they last passed: module and name → runtime → topology → seconds of all cases.

    Args:
        runs: a folder with one folder a session, each with those of its scenarios.
    """
    found: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for session in sorted(path for path in runs.glob("*") if path.is_dir() and not path.is_symlink()):
        sums: dict[tuple[str, str, str, str], float] = {}
        for path in session.glob(f"*/*/{RESULT}"):
            result = json.loads(path.read_text())
            if result["verdict"] == "valid":
                key = (result["module"], result["name"], result["runtime"], result["topology"])
                sums[key] = sums.get(key, 0.0) + result["took_s"]
        for (module, name, runtime, topology), took_s in sums.items():
            found.setdefault((module, name), {}).setdefault(runtime, {})[topology] = round(took_s, 1)
    return found


def _entry(
    module: str, function: ast.FunctionDef, measured: Mapping[tuple[str, str], dict[str, dict[str, float]]]
) -> Entry:
    marks = dict(_marks(function))
    said = marks.get(MARK, {})
    each = "topology" in {argument.arg for argument in function.args.args}
    shows = (ast.get_docstring(function) or "").partition("\n")[0]
    where = f"scenarios/{module}.py:{function.lineno}: {function.name}"
    if "takes_s" not in said:
        raise LabError(f"{where}: does not say how long it takes; mark it, e.g. pytest.mark.scenario(takes_s=5)")
    if not shows:
        raise LabError(f"{where}: does not say what it shows; give it a docstring of one line")
    if not each and not said.get("topologies"):
        raise LabError(f"{where}: takes no fixture topology; add topologies=(…) to its mark")
    return Entry(
        name=function.name,
        module=module,
        shows=shows,
        takes_s=said["takes_s"],
        long=LONG in marks,
        long_on=tuple(said.get("long_on", ())),
        smoke=SMOKE in marks,
        each=each,
        topologies=tuple(said.get("topologies", TOPOLOGIES)),
        runtimes=tuple(said.get("runtimes", RUNTIMES)),
        measured_s=measured.get((module, function.name), {}),
    )


def _marks(function: ast.FunctionDef) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of pytest's marks, with the keyword arguments of the catalogue's own."""
    for decorator in function.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        name = ast.unparse(call.func if call else decorator).removeprefix("pytest.mark.")
        own = name == MARK and call is not None
        yield name, {each.arg or "": ast.literal_eval(each.value) for each in call.keywords} if own and call else {}


def how_long(entry: Entry) -> str:
    """E.g. ``9 s a topology``, with what was measured if it is known."""
    declared = f"{entry.takes_s:g} s{' a topology' if entry.each and len(entry.topologies) > 1 else ''}"
    spans = [
        f"{runtime} {_span(list(by_topology.values()))} s" for runtime, by_topology in sorted(entry.measured_s.items())
    ]
    return f"{declared} ({', '.join(spans)})" if spans else declared


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low}-{high}"


def where(entry: Entry) -> str:
    """E.g. ``each of gateway, mesh``, or ``each``."""
    listed = "all" if entry.topologies == TOPOLOGIES else ", ".join(entry.topologies)
    return f"each of {listed}" if entry.each and len(entry.topologies) > 1 else listed


def page() -> str:
    """``docs/scenarios.md``: the catalogue as Markdown."""
    listed = entries()
    parts = [_HEAD]
    for module in dict.fromkeys(each.module for each in listed):
        doc = ast.get_docstring(ast.parse((HERE / f"{module}.py").read_text())) or module
        parts.append(f"## {doc.partition(chr(10))[0].rstrip('.')}\n")
        parts.append(f"[scenarios/{module}.py](../scenarios/{module}.py)\n")
        parts += [_paragraph(each) for each in listed if each.module == module]
    return "\n".join(parts)


def _paragraph(entry: Entry) -> str:
    marks = "".join(f", {word}" for word in entry.sets)
    runtimes = "" if entry.runtimes == RUNTIMES else f", on {' and '.join(entry.runtimes)} alone"
    return f"- **{entry.claim}.** {entry.shows}\n  *{where(entry)}; {how_long(entry)}{marks}{runtimes}*\n"


_HEAD = """# Scenarios

What topologies promise, as claims that are tried on a lab that is up. Written by `python -m scenarios`; do not change
it by hand. `lab scenarios` lists the same, with how long each took here.

`make scenarios` runs all but the long ones, each on every topology that it is about; `make scenarios ARGS=--long` runs
those, too, and `make smoke` the few that continuous integration runs on every change. All topologies are gateway,
gateway-passthrough, gateway-header, mesh and proxyless. In containers everything on gateway-passthrough and
gateway-header is one of the long ones. With `ARGS='--topology gateway-header'`, what is long on that topology alone
runs, too.

Two run side by side. Where the machine is too slow for that, so that one fails while its driver is late, that one is
tried again alone in the end, and says so.
"""
