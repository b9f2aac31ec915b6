"""``lab routes``: validate, schema, publish, set, show, history, diff, rollback, explain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table

from lab.bounds import REVISION
from lab.cli.options import Caller, Context, Json, Name, RoutesFile, UseCase, User, read_context
from lab.cli.output import console, print_json, progress_console, say, table
from lab.errors import InputError
from lab.lab import Lab
from lab.ops.routes import Routes, as_yaml, for_callers
from lab.routing.schema_json import text as schema_text

if TYPE_CHECKING:
    from lab.client.admin_values import Acknowledgement, Node, PublishProgress, RevisionInfo, Step, Waiting

_NS_PER_MS = 1e6
_PHASES = ("stored", "loaded", "endpoints", "converged")


app = typer.Typer(
    help="Show, check, explain and publish route tables.\n\n"
    "Begin with `lab routes show`, then `lab routes explain ContinueWatchingRanking --context device=tv`.",
    no_args_is_help=True,
)


Expect = Annotated[
    int, typer.Option(min=REVISION.low, max=REVISION.high, help="Refuse unless this revision is in force.")
]
Comment = Annotated[str, typer.Option(help="Reason, kept with the revision.")]
As = Annotated[
    str,
    typer.Option(
        "--as", metavar="OWNER", help="Publish in this owner's name, who may change what is theirs; see lab pki owner."
    ),
]
_Revision = Annotated[int, typer.Argument(min=1, max=REVISION.high, help="Revision.")]


@app.command()
def validate(file: RoutesFile, as_json: Json = False) -> None:
    """Check a route table; needs no lab. Exit status 1, and one line with file, line and field, if it is invalid.

    Example: lab routes validate routes.yaml
    """
    found = Routes.validate(file)
    counts = {
        "use_cases": len(found.document["use_cases"]),
        "model_versions": sum(len(each["versions"]) for each in found.document["models"].values()),
        "clusters": len(found.clusters),
    }
    if as_json:
        print_json({"valid": True, **counts})
    else:
        listed = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items())
        console.print(f"valid: {listed}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of route tables, for editors; docs/routes.schema.json is a copy.

    Example: lab routes schema > docs/routes.schema.json
    """
    print(schema_text(), end="")


@app.command()
def publish(
    file: RoutesFile,
    expect: Expect = 0,
    comment: Comment = "",
    unsafe_skip_phases: Annotated[
        bool,
        typer.Option(
            "--unsafe-skip-phases",
            help="Send rules before models have loaded, to show why phases exist. Requests fail.",
        ),
    ] = False,
    callers: Annotated[
        str,
        typer.Option(
            metavar="CALLER,…",
            help="Publish to these callers only, at gateways too, until it is published to all or rolled back.",
        ),
    ] = "all",
    owner: As = "",
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Publish a route table; returns when every node has acknowledged it, with the time each took.

    Example: lab routes publish routes.yaml --callers homepage,search --comment "UpNext by up-next@v2"
    """
    named = [] if callers == "all" else sorted({each.strip() for each in callers.split(",")} - {""})
    if callers != "all" and not named:
        raise InputError("--callers names no caller; write --callers homepage,search, or all")
    with publish_shown(as_json=as_json, callers=named) as progress:
        Lab(name).routes.publish(
            file,
            expected_revision=expect,
            comment=comment,
            unsafe_skip_phases=unsafe_skip_phases,
            callers=named,
            owner=owner,
            progress=progress,
        )


@app.command("set")
def set_use_case(
    use_case: UseCase,
    file: Annotated[Path, typer.Argument(help="YAML file with the use case's section of a route table.")],
    expect: Expect = 0,
    comment: Comment = "",
    owner: As = "",
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Publish a change to one use case, at a cost independent of the size of the route table.

    Example: lab routes set UpNext up-next.yaml --comment "only playback may call"
    """
    with publish_shown(as_json=as_json) as progress:
        Lab(name).routes.set_use_case(
            use_case, file, expected_revision=expect, comment=comment, owner=owner, progress=progress
        )


@app.command()
def rollback(
    revision: Annotated[
        int, typer.Argument(min=REVISION.low, max=REVISION.high, help="Revision; takes the staged one back by default.")
    ] = 0,
    expect: Expect = 0,
    owner: As = "",
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Publish an earlier revision's route table again, as a new revision; or take the staged one back.

    Example: lab routes rollback 3
    """
    with publish_shown(as_json=as_json) as progress:
        Lab(name).routes.rollback(revision, expected_revision=expect, owner=owner, progress=progress)


@app.command()
def show(
    revision: Annotated[
        int, typer.Argument(min=REVISION.low, max=REVISION.high, help="Revision; the one in force by default.")
    ] = 0,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Print a route table.

    Example: lab routes show
    """
    found = Lab(name).routes.show(revision)
    if as_json:
        print_json(_info(found))
    else:
        state = f", {found.fate}{for_callers(found.callers)}" if found.in_force else ""
        console.print(f"# revision {found.revision}{state}", markup=False)
        console.print(as_yaml(found.document), markup=False, end="", soft_wrap=True)


@app.command()
def history(
    owner: Annotated[str, typer.Option("--as", metavar="OWNER", help="Only what was published in this name.")] = "",
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """List all revisions: in force, staged for some callers, replaced or failed.

    Example: lab routes history
    """
    found = [each for each in Lab(name).routes.history() if not owner or each.author.endswith(f" as {owner}")]
    if as_json:
        print_json([_info(each) for each in found])
        return
    rows = [
        (
            f"{each.revision}{' ←' if each.in_force else ''}",
            datetime.fromtimestamp(each.created_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            each.author,
            f"{each.fate}{for_callers(each.callers)}",
            each.comment if each.fate != "failed" else each.steps[-1].detail,
        )
        for each in found
    ]
    headings = ("revision", "published (UTC)", "author", "state", "comment")
    console.print(table(headings, rows, folds=headings[-1:], optional=("author",)))


@app.command()
def diff(a: _Revision, b: _Revision, name: Name = "default", as_json: Json = False) -> None:
    """Show the changes from revision A to revision B.

    Example: lab routes diff 1 2
    """
    routes = Lab(name).routes
    lines, changes = routes.compared(routes.show(a), routes.show(b))
    changed = [(each.entry, each.owner) for each in changes]
    if as_json:
        print_json({"a": a, "b": b, "diff": lines, "changes": [{"entry": what, "owner": who} for what, who in changed]})
        return
    for what, who in changed:
        console.print(f"{what}{f', owned by {who}' if who else ''}", markup=False)
    for line in lines or ["no difference"]:
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[0], "")
        console.print(line, markup=False, style=style or None, soft_wrap=True)


@app.command()
def explain(
    use_case: UseCase,
    caller: Caller = "homepage",
    user: User = "",
    context: Context = None,
    file: Annotated[
        Path | None, typer.Option(help="Explain by this file instead of the revision in force; needs no lab.")
    ] = None,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Show where a request would go, and why each earlier rule did not match.

    Example: lab routes explain ContinueWatchingRanking --context device=tv --context country=US --file routes.yaml
    """
    explanation = Lab(name).routes.explain(use_case, read_context(context, user=user, caller=caller), file=file)
    choice = explanation.choice
    if as_json:
        print_json(
            {
                "use_case": use_case,
                "model": choice.model,
                "version": choice.version,
                "routing_key": choice.routing_key,
                "rule": choice.rule,
                "bucket": choice.bucket,
                "revision": choice.revision,
                "share": choice.share,
                "parameters": dict(choice.parameters),
                "fallback": [each.routing_key for each in choice.alternatives],
                "shadow": None if choice.shadow is None else asdict(choice.shadow),
                "rules": [asdict(each) for each in explanation.rules],
            }
        )
        return
    for each in explanation.rules:
        mark = "[green]✓[/green]" if each.matched else "[dim]✗[/dim]"
        console.print(f"{mark} {each.rule}: {each.reason}")
    if choice.rule == "default":
        console.print("[green]✓[/green] default")
    if choice.rule == "override":
        console.print("[green]✓[/green] override")
    console.print(f"→ {choice.model}@{choice.version}, routing key {choice.routing_key}", style="bold")
    for parameter, origin in explanation.parameters.items():
        console.print(f"  {parameter}: {choice.parameters[parameter]!r}, from {origin}", markup=False)
    for line in explanation.beyond:
        console.print(f"  {line}", markup=False)


def _info(revision: RevisionInfo) -> dict[str, object]:
    document = asdict(revision)
    return document if revision.document is not None else {k: v for k, v in document.items() if k != "document"}


@dataclass(slots=True)
class PublishView:
    """The progress of a publish so far.

    Attributes:
        callers: to whom it is published; empty for all.
        steps: phases reached, in order.
        waiting: phase waited for, and the progress within it.
        acknowledgements: of the nodes, once they have converged.
        left_behind: nodes that refused or did not answer, so that publishes no longer wait for them.
    """

    callers: Sequence[str] = ()
    steps: list[Step] = field(default_factory=list)
    waiting: tuple[str, Waiting] | None = None
    acknowledgements: tuple[Acknowledgement, ...] = ()
    left_behind: tuple[Node, ...] = ()
    revision: int = 0
    called_ns: int = 0

    def take(self, progress: PublishProgress) -> None:
        """Takes the next progress."""
        self.revision, self.called_ns = progress.revision, progress.called_ns
        if progress.waiting is not None:
            self.waiting = (progress.step.phase, progress.waiting)
            return
        self.waiting = None
        self.steps.append(progress.step)
        self.acknowledgements = progress.acknowledgements or self.acknowledgements
        self.left_behind = progress.left_behind or self.left_behind

    def since_call_ms(self, at_ns: int) -> float:
        """Time since the publish call arrived, ms."""
        return (at_ns - self.called_ns) / _NS_PER_MS

    def to_document(self) -> dict[str, object]:
        """As ``--json`` prints it; times in ms."""
        return {
            "revision": self.revision,
            "callers": list(self.callers),
            "phases": [
                {"phase": step.phase, "ms": self.since_call_ms(step.at_ns), "detail": step.detail}
                for step in self.steps
            ],
            "nodes": [
                {
                    "node": each.node,
                    "role": each.role,
                    "since_sent_ms": (each.at_ns - each.sent_ns) / _NS_PER_MS,
                    "since_call_ms": self.since_call_ms(each.at_ns),
                }
                for each in self.acknowledgements
            ],
            "left_behind": [{"node": each.node, "role": each.role, "reason": each.error} for each in self.left_behind],
        }


@contextmanager
def publish_shown(*, as_json: bool, callers: Sequence[str] = ()) -> Iterator[Callable[[PublishProgress], None]]:
    """Shows a publish while it runs, live on a terminal, line by line elsewhere, and then when each node acknowledged.

    Yields a function that takes its progress.
    """
    view = PublishView(callers)
    if progress_console.is_terminal:
        with Live(console=progress_console, get_renderable=lambda: _phases(view), refresh_per_second=10) as live:
            yield view.take
            live.refresh()
    else:
        yield _line_by_line(view)
    if as_json:
        print_json(view.to_document())
    else:
        _show_published(view)


def _line_by_line(view: PublishView) -> Callable[[PublishProgress], None]:
    last_line = ""

    def take(progress: PublishProgress) -> None:
        nonlocal last_line
        view.take(progress)
        step = progress.step
        since = f"{view.since_call_ms(step.at_ns):8.1f} ms {step.detail}"
        state = f"waiting: {_progress(progress.waiting)}" if progress.waiting else since
        line = f"revision {progress.revision}: {step.phase:<10} {state}"
        if line != last_line:
            say(escape(line))
            last_line = line

    return take


def _show_published(view: PublishView) -> None:
    rows = [
        (
            each.node,
            each.role,
            f"{(each.at_ns - each.sent_ns) / _NS_PER_MS:.1f}",
            f"{view.since_call_ms(each.at_ns):.1f}",
        )
        for each in view.acknowledgements
    ]
    if rows:
        headings = ("node", "role", "ms since sent", "ms since call")
        console.print(table(headings, rows, right=headings[2:]))
    console.print(f"revision {view.revision} is in force{for_callers(view.callers)}")
    for each in view.left_behind:
        console.print(f"warning: {behind_in_words(each)}", style="yellow", markup=False)


def behind_in_words(node: Node) -> str:
    """Why a node is behind, and what follows, in one line."""
    return f"{node.role} {node.node} is left behind: {node.error}; `lab status` shows when it has caught up"


def _phases(view: PublishView) -> Table:
    result = Table.grid(padding=(0, 1))
    reached = {step.phase: step for step in view.steps}
    waiting_phase, waiting = view.waiting or ("", None)
    failed = reached.get("failed")
    for phase in (*_PHASES, *(["failed"] if failed else [])):
        step = reached.get(phase)
        if step is not None:
            mark = "[red]✗[/red]" if phase == "failed" else "[green]✓[/green]"
            result.add_row(mark, phase, f"{view.since_call_ms(step.at_ns):.1f} ms", f"[dim]{escape(step.detail)}[/dim]")
        elif failed is None and (phase == waiting_phase or phase == _next(reached)):
            result.add_row(Spinner("dots"), phase, "", f"[dim]{escape(_progress(waiting)) if waiting else ''}[/dim]")
        else:
            result.add_row(" ", f"[dim]{phase}[/dim]", "", "")
    return result


def _next(reached: dict[str, Step]) -> str:
    return next((phase for phase in _PHASES if phase not in reached), "")


def _progress(waiting: Waiting) -> str:
    missing = ", ".join(waiting.waiting_for[:3]) + (" …" if len(waiting.waiting_for) > 3 else "")  # noqa: PLR2004 (a line)
    return f"{waiting.done} of {waiting.total}; {missing}"
