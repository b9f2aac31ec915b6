"""How many requests a run needs, so that each share of its route table can be judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil, log1p
from random import Random
from typing import TYPE_CHECKING, Any

from lab.checkers.draws import draws_of, marked
from lab.checkers.kinds.split import SIGMAS
from lab.checkers.plain import decide
from lab.measure.binomial import least_trials

if TYPE_CHECKING:
    from lab.checkers.draws import Draw
    from lab.runs.drive import LoadOptions

_DRAWN = 2_000
_MARGIN = 1.2  # users come by chance
_SELDOM = 20  # of the drawn ones: what they meet more seldom is judged by longer runs


def requests_to_judge(document: Mapping[str, Any], options: LoadOptions, use_cases: Sequence[str]) -> tuple[int, str]:
    """Returns how many requests let each draw of a table be judged that they meet, and the share that needs most.

    Args:
        document: the route table.
        options: of the load; its rate and duration do not count.
        use_cases: of the requests.

    Returns:
        The number, and the share in words: ``the 5 % arm of rule canary of HomepageRows``; 0 and none without a draw.
    """
    random = Random("requests to judge")  # noqa: S311 (not security-relevant)
    draws, rules = draws_of(document), marked(document)
    met: Counter[tuple[str, str]] = Counter()
    for _ in range(_DRAWN):
        use_case = random.choice(use_cases)
        context = {name: random.choice(values) for name, values in options.contexts.items()}
        context |= {"caller": options.caller, "user_id": f"u{random.randrange(options.users)}"}
        met[use_case, decide(rules, use_case, context).version] += 1
    needed = {
        _in_words(draw): ceil(_MARGIN * _requests(draw, options.users) * _DRAWN / times)
        for (use_case, rule), times in met.items()
        if times >= _SELDOM and (draw := draws[use_case].get(rule))
    }
    most = max(needed, key=needed.__getitem__, default="")
    chosen = 1 - 1 / options.edge_every if options.edge_every > 1 else 1  # edge cases do not count
    return ceil(needed.get(most, 0) / chosen), most


def _least(draw: Draw) -> int:
    return min(weight for weight in draw.weights.values() if weight)


def _in_words(draw: Draw) -> str:
    return f"the {_least(draw)} % arm of {draw}"


def _requests(draw: Draw, users: int) -> float:
    """Requests that meet the draw until enough different units have; where there are not so many, as many requests."""
    units = least_trials(_least(draw) / 100, SIGMAS)
    return -users * log1p(-units / users) if draw.unit == "user_id" and units < users else units
