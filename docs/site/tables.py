"""``make pages``: writes the tables that pages derive from code, between marks ``<!-- table: NAME -->``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from docs.site.blocks import pages, write
from docs.site.floors import floors, other_contracts
from docs.site.links import CHECKOUT, PAGES
from lab.checkers import CHECKERS, not_checked
from lab.faults import catalogue as fault_catalogue
from lab.pickers import PICKERS
from lab.plugins.bench.harness.bench import BENCHES, Bench
from lab.plugins.conform import CHECKS
from lab.plugins.conform.forms import BY_ENVELOPE, BY_HEADER
from lab.roles import ROLES, Placement
from lab.runs.folder import FILES
from lab.topologies import TOPOLOGIES, Support
from services.renderer.proxy import rendered_topologies

if TYPE_CHECKING:
    from lab.checkers import Checker
    from lab.plugins.conform import Check

RESILIENCE = (
    *("deadlines", "retries", "retry_budget", "per_try_timeout", "attempts_reported", "hedging", "hedge_budget"),
    *("outlier_ejection", "ejection_in_a_row", "circuit_breaker", "health_checks", "failover", "draining"),
    "slow_start",
)
"""Capabilities that concern failing replicas, for docs/resilience.md; docs/architecture.md has all others."""


def proxied() -> list[str]:
    """Topologies with one central proxy, for docs/proxies.md; first that of the default lab."""
    found = [
        each for each in TOPOLOGIES.values() if any(ROLES[role].placement is Placement.ALONE for role in each.between)
    ]
    return [each.name for each in sorted(found, key=lambda each: not each.in_default_lab)]


def tables() -> dict[str, str]:
    """Every derived table, by the name of its marks."""
    others = [name for name in _capabilities() if name not in RESILIENCE]
    return {
        "topologies": _table(
            ("name", "path", "why it is there"),
            ((f"`{each.name}`", each.route, each.reason) for each in TOPOLOGIES.values()),
        ),
        "capabilities": _support(others),
        "resilience": _support(RESILIENCE),
        "pickers": _table(("picker", "picks"), ((f"`{each.name}`", each.line) for each in PICKERS.values())),
        "proxies": _each_support(proxied()),
        "renderers": _table(
            ("proxy", "topology", "what a change of routes replaces"),
            ((ROLES[each.name].title, f"`{name}`", each.configures) for name, each in rendered_topologies().items()),
        ),
        "checkers": _table(
            ("checker", "claim", "question", "judges", "cannot see"),
            ((f"`{each.name}`", each.claim, each.question, _judges(each), each.blind) for each in CHECKERS.values()),
        ),
        "not-checked": _table(
            ("field", "why"),
            (
                (f"`{name}`", why)
                for its in (not_checked.OF_RECORDS, not_checked.OF_ARRIVALS)
                for name, why in its.items()
            ),
        ),
        "conformance": _table(
            ("check", "what holds", "needs", "same test elsewhere"),
            ((f"`{each.name}`", each.claim, _needs(each), each.upstream) for each in CHECKS.values()),
        ),
        "benches": _table(("bench", "question"), ((_named(each), each.question) for each in BENCHES.values())),
        "evidence": _table(
            ("file", "what it has", "since"),
            ((f"`{each.name}`", each.holds, each.since) for each in FILES.values()),
        ),
        "faults": fault_catalogue.table().strip(),
        "packages": _packages(),
        "decisions": "\n".join(_decisions()),
    }


def _packages() -> str:
    rooms = [room for floor in floors() for room in floor]
    table = _table(("package", "what belongs there"), ((f"`{room.name}`", room.purpose) for room in rooms))
    return "\n".join((table, "", "The linter also enforces:", "", *(f"- {name}" for name in other_contracts())))


def _decisions() -> Iterator[str]:
    for path in sorted((PAGES / "decisions").glob("0*.md")):
        title = path.read_text().partition("\n")[0].lstrip("# ")
        yield f"- [{title}]({path.name})"


def _named(bench: Bench) -> str:
    return f"`{bench.name}`, of `{bench.part_of}`" if bench.part_of else f"`{bench.name}`"


def main() -> None:
    """Writes all tables into the pages that have their marks."""
    known = tables()
    for page in pages():
        if write(page, known):
            print(f"written: {page.relative_to(CHECKOUT)}")  # noqa: T201 (a command prints)


def _needs(check: Check) -> str:
    only = {"": (), BY_HEADER: ("a header",), BY_ENVELOPE: ("`--envelope`",)}[check.only]
    return ", ".join([*only, *(["`--control`"] if check.changes else ["`--drain`"] if check.drains else [])])


def _judges(checker: Checker) -> str:
    return f"runs with {checker.subject}" if checker.subject else "every run"


def _capabilities() -> list[str]:
    """Names of all capabilities that a topology has or lacks."""
    some = next(iter(TOPOLOGIES.values())).capabilities
    return [name for name in some.__dataclass_fields__ if isinstance(getattr(some, name), Support)]


def _support(capabilities: Sequence[str]) -> str:
    """One row a capability, one column for all topologies that are alike in these capabilities."""

    def column(name: str) -> tuple[str, ...]:
        return tuple(str(getattr(TOPOLOGIES[name].capabilities, each)) for each in capabilities)

    alike = [(cells, list(names)) for cells, names in groupby(sorted(TOPOLOGIES, key=column), key=column)]
    alike.sort(key=lambda group: list(TOPOLOGIES).index(group[1][0]))
    heads = ("", *(", ".join(f"`{name}`" for name in names) for _, names in alike))
    return _table(
        heads,
        ((each.replace("_", " "), *(cells[row] for cells, _ in alike)) for row, each in enumerate(capabilities)),
    )


def _each_support(topologies: Sequence[str]) -> str:
    """One row for each capability that they have or lack, one column for each topology."""
    rows = (
        (each.replace("_", " "), *(str(getattr(TOPOLOGIES[name].capabilities, each)) for name in topologies))
        for each in _capabilities()
    )
    return _table(("", *(f"`{name}`" for name in topologies)), rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows))


if __name__ == "__main__":
    main()
