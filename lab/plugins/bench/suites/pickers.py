"""Which replica? Pickers by share of the prompt that is shared, by offered load, and by age of the signal."""

from __future__ import annotations

import copy
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from itertools import product
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lab.checkers import Claim as RunClaim
from lab.checkers import Outcome, worst
from lab.errors import InputError, UnitError
from lab.load.engines import ENGINES
from lab.measure.compare import median, typical
from lab.measure.control import control, rounds_to_tell
from lab.pickers import GATEWAY, PICKERS, Cannot, Chooses
from lab.plugins.bench.harness.bench import Bench, Option
from lab.plugins.bench.harness.charts import MIXED
from lab.plugins.bench.harness.crossover import (
    FIGURES,
    LEAST_ROUNDS,
    SKEW,
    Cell,
    figures_table,
    heats_of,
    map_table,
    published_table,
)
from lab.plugins.bench.harness.environment import open_small_environment
from lab.plugins.bench.harness.result import BenchResult, Claim
from lab.plugins.bench.harness.trials import Trials
from lab.report.fault_reach import percent
from lab.routing.document import read_path
from lab.runs import LoadOptions
from lab.runs.folder import RunFolder
from lab.spec import SIZES
from lab.topologies import TOPOLOGIES
from models.apis import ANSWER_TOKENS
from models.tokens.settings import TokenSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lab.history import Record
    from lab.plugins.bench.harness.environment import Environment
    from lab.runs.judging import RunResult

FOREIGN_PICKER = "cache-aware"
PICKED = ("round-robin", "queue-depth", "prefix", "prefix-affinity", "session")
SHARES, LOADS, AGES_MS = (0.1, 0.5, 0.9), (50, 90, 130), (50, 1_000, 5_000)
SKEWS = (0.0, SKEW, 2.0)
SMALL: Mapping[str, tuple[float, ...]] = {"shares": (0.1, 0.9), "loads": (50, 130), "ages": (50,), "skews": (SKEW,)}
"""The dials, and of each what is measured if the user names nothing."""

SECONDS, LEAD = 2.0, 0.25
"""Length of a trial, and the share of its beginning that is not counted, while caches fill."""

REPLICAS, TURNS, PROMPT_TOKENS = 4, 2, 512
THINKS_S = 1.2
"""Time between two requests of a user."""

SLO_MS = 500.0
"""Bound of the time to the first token for an answer that counts as goodput."""

PICK_AT_MOST = 0.01
"""Of the time to the first token, for the pick itself; the models' time scale is chosen so."""

SETTINGS = TokenSettings(max_num_seqs=8, load_factor=2, queue_limit=64)
KV_EVENTS, PREFILL_REPLICAS = 2, 1
"""Form of the KV events for pickers that follow them, and replicas that only prefill for those that ask some."""

CALLER, USE_CASE = "homepage", "Chat"
_SPEC = """topologies = ["{topology}"]
picker = "{picker}"
[callers.{caller}]
page = [["{use_case}"]]
[gateway]
replicas = 1
[signal]
age_ms = {age_ms}
[stub.tokens]
{tokens}
"""
_PICKS = "picks"  # the checker
_GATEWAY = "gateway"
_AT = " at "
_PICK, _AGAIN = "pick", 500
_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """An arm in a cell: a picker, with its topology if that is not the gateway.

    ``again``: the second measurement of the A/A control.
    """

    picker: str
    cell: Cell
    again: bool = False

    def __str__(self) -> str:
        return f"{self.picker}{' again' * self.again}, {self.cell}"


class Load(NamedTuple):
    """What all trials have in common: turns of a conversation, and length in seconds."""

    turns: int
    seconds: float


def run(
    environment: Environment,
    rounds: int,
    *,
    pickers: Sequence[str] = PICKED,
    foreign: Sequence[str] = (),
    shares: Sequence[str] = (),
    loads: Sequence[str] = (),
    ages: Sequence[str] = (),
    skews: Sequence[str] = (),
    turns: Sequence[str] = (),
    seconds: Sequence[str] = (),
) -> BenchResult:
    """Brings a lab up for each picker and age in every round, and drives every share and load through it.

    Raises:
        InputError: several numbers of turns or seconds are given.
    """
    for name, values in (("turns", turns), ("seconds", seconds)):
        if len(values) > 1:
            raise InputError(f"--{name}: a map has one number of {name}; take {values[0]} or {values[1]}")
    given = {"shares": shares, "loads": loads, "ages": ages, "skews": skews}
    dials = [sorted(map(float, given[each])) or SMALL[each] for each in SMALL]
    cells = [Cell(share, load, int(age_ms), skew) for share, load, age_ms, skew in product(*dials)]
    load = Load(int(turns[0]) if turns else TURNS, float(seconds[0]) if seconds else SECONDS)
    arms = [*pickers, *(f"{FOREIGN_PICKER}{_AT}{each}" for each in foreign)]
    return result(measured(environment, rounds, arms, cells, load), rounds, arms, cells, load)


def orders(pickers: Sequence[str], cells: Sequence[Cell], rounds: int) -> list[list[Place]]:
    """The trials of each round: labs in random order, and in each lab its cells in random order."""
    draw = Random(0)  # noqa: S311 (no secret)
    arms = list(product(pickers, dict.fromkeys(cell.age_ms for cell in cells)))
    found = []
    for _ in range(rounds):
        trials: list[Place] = []
        for picker, age_ms in draw.sample(arms, len(arms)):
            mine = [Place(picker, cell) for cell in cells if cell.age_ms == age_ms]
            mine += [Place(picker, cell, again=True) for cell in cells[:1] if (picker, age_ms) == arms[0]]
            trials += draw.sample(mine, len(mine))
        found.append(trials)
    return found


def measured(
    environment: Environment, rounds: int, pickers: Sequence[str], cells: Sequence[Cell], load: Load
) -> dict[tuple[Place, str], list[float]]:
    """One value a round of each figure of each picker in each cell; NaN of a trial that was not valid."""
    trials = Trials(environment, orders(pickers, cells, rounds))
    with ExitStack() as stack:
        lab, is_up = environment, None
        for trial in trials:
            place = trial.cell
            with trial:
                if is_up != (wanted := (trial.number, place.picker, place.cell.age_ms)):
                    is_up = None
                    stack.close()
                    lab, is_up = stack.enter_context(_lab(place)), wanted
                # The same requests for each picker, and others in each round, as caches keep what they have had.
                seed = 1_000 * trial.number + cells.index(place.cell) + _AGAIN * place.again
                trial.keep(**_trial(lab, _arm(place.picker)[1], place.cell, load, seed))
    return trials.samples


def _lab(place: Place) -> AbstractContextManager[Environment]:
    return open_small_environment(lambda _: None, spec_of(place.picker, place.cell.age_ms), routes())


def spec_of(picker: str, age_ms: int, settings: TokenSettings = SETTINGS) -> str:
    """The text of a spec without its route table, for one arm, age of the signal and kind of model."""
    name, topology = _arm(picker)
    made = PICKERS[name].at(GATEWAY)
    if isinstance(made, Chooses):
        settings = replace(
            settings,
            kv_events=KV_EVENTS if made.follows_kv_events else 0,
            prefill_replicas=PREFILL_REPLICAS if made.picks_prefillers else 0,
        )
    tokens = settings.to_text().replace(",", "\n")
    return _SPEC.format(topology=topology, picker=name, caller=CALLER, use_case=USE_CASE, age_ms=age_ms, tokens=tokens)


def _arm(arm: str) -> tuple[str, str]:
    """The picker of an arm, and the topology on which it picks: the gateway, unless it says another one."""
    picker, _, topology = arm.partition(_AT)
    return picker, topology or _GATEWAY


def _of_gateways() -> list[str]:
    """Names of the pickers that the lab's gateway can ask."""
    return [name for name, each in PICKERS.items() if not isinstance(each.at(_GATEWAY), Cannot)]


def _third_party() -> list[str]:
    """Names of the topologies whose router has a policy by prompts that no gateway of the lab's has."""
    places = {name: each.picker_place for name, each in TOPOLOGIES.items()}
    return [name for name, place in places.items() if not isinstance(PICKERS[FOREIGN_PICKER].at(place), Cannot)]


def routes() -> str:
    """Route table of its labs, as JSON: one model on :data:`REPLICAS` replicas, whose SLO is that of the goodput."""
    document = copy.deepcopy(read_path(SIZES["tokens"].with_name("tokens.routes.yaml")).document)
    document["use_cases"][USE_CASE]["slo"] = {"first_token": f"{SLO_MS:g}ms"}
    return json.dumps(document)


def capacity_rps(share: float, turns: int, settings: TokenSettings = SETTINGS) -> float:
    """Requests per second that the replicas carry with empty caches, by their formulas, all of their places taken."""
    question = round((1 - share) * PROMPT_TOKENS)
    tokens = PROMPT_TOKENS + (question + ANSWER_TOKENS) * (turns - 1) / 2
    full = settings.max_num_seqs
    takes_s = settings.first_token_s(round(tokens), full) + (ANSWER_TOKENS - 1) * settings.next_token_s(full)
    return REPLICAS * full / takes_s


def users_at(rate: float) -> int:
    """Users who each send every :data:`THINKS_S`; odd, or round-robin would send each to the same replica again."""
    return round(rate * THINKS_S) | 1


def _trial(lab: Environment, topology: str, cell: Cell, load: Load, seed: int) -> dict[str, float]:
    """The figures of one run.

    Raises:
        UnitError: the run's correctness is not valid, or nothing was answered.
    """
    rate = cell.load / 100 * capacity_rps(cell.share, load.turns)
    ran = lab.lab.load(
        LoadOptions(
            topology=topology,
            caller=CALLER,
            use_cases=(USE_CASE,),
            rate=rate,
            duration_s=load.seconds,
            users=users_at(rate),
            seed=seed,
            streams=100,
            engine=ENGINES["chat"].plan(
                turns=load.turns, share=cell.share, skew=cell.skew, prompt_tokens=PROMPT_TOKENS
            ),
        )
    )
    require_valid(ran)
    folder = RunFolder(ran.folder)
    gateways = folder.gathered[_PICKS]["gateways"].values()
    took_ns = {each["asked"]["request_id"]: each["took_ns"] for its in gateways for each in its["entries"]}
    return figures_of(folder.history, took_ns, lead_s=LEAD * load.seconds)


def require_valid(ran: RunResult) -> None:
    """Checks that a run counts.

    Raises:
        UnitError: its correctness is not valid, or its picks were not judged.
    """
    picks = [each.outcome for each in ran.verdicts if each.checker == _PICKS]
    if (outcome := worst((ran.claims[RunClaim.CORRECTNESS], *(picks or [Outcome.UNKNOWN])))) is not Outcome.VALID:
        said = [f"{each.checker}: {each.summary}" for each in ran.verdicts if each.outcome is outcome]
        raise UnitError(f"correctness is {outcome}: {'; '.join(said[:1]) or 'picks were not judged'} ({ran.folder})")


def figures_of(records: Sequence[Record], took_ns: Mapping[str, int], *, lead_s: float) -> dict[str, float]:
    """The figures of the records of a run, without its lead; times count from when a request was due.

    Raises:
        UnitError: nothing was answered.
    """
    from_ns = min(each.intended_ns for each in records) + lead_s * 1e9
    counted = [each for each in records if each.intended_ns >= from_ns]
    answered = [each for each in counted if each.status == "OK" and each.first_item_ns]
    if not answered:
        raise UnitError("no request was answered")
    first_ms = np.array([each.sent_ns - each.intended_ns + each.first_item_ns for each in answered]) / _NS_PER_MS
    total_ms = np.array([each.done_ns - each.intended_ns for each in answered]) / _NS_PER_MS
    usage = np.array([list(map(float, each.usage.split()[:2])) for each in answered])
    by_replica = Counter(each.replica for each in answered)
    seconds = (max(each.intended_ns for each in counted) - from_ns) / 1e9
    found = {
        "ttft_p50_ms": float(np.median(first_ms)),
        "ttft_p99_ms": _p99(first_ms),
        "itl_p50_ms": float(np.median((total_ms - first_ms) / (ANSWER_TOKENS - 1))),
        "total_p50_ms": float(np.median(total_ms)),
        "total_p99_ms": _p99(total_ms),
        "goodput_rps": float((first_ms <= SLO_MS).sum() / seconds),
        "hit_rate": float(usage[:, 1].sum() / usage[:, 0].sum()),
        "imbalance": max(by_replica.values()) * REPLICAS / len(answered),
        "failed": float(len(counted) - len(answered)),
    }
    own_ms = [took_ns[each.request_id] / _NS_PER_MS for each in answered if each.request_id in took_ns]
    return found | ({_PICK: float(np.median(own_ms)) / found["ttft_p50_ms"]} if own_ms else {})


def _p99(values: NDArray[np.float64]) -> float:
    return float(np.quantile(values, 0.99, method="higher"))


def result(
    samples: Mapping[tuple[Place, str], list[float]],
    rounds: int,
    pickers: Sequence[str],
    cells: Sequence[Cell],
    load: Load,
) -> BenchResult:
    """The result of one value a round of each figure of each picker in each cell; NaN where it is missing."""
    found = {
        cell: {figure: {each: samples[Place(each, cell), figure] for each in pickers} for figure in FIGURES}
        for cell in cells
    }
    affine = {each for each in pickers if PICKERS[_arm(each)[0]].reads_prompt}
    twice = [samples[Place(pickers[0], cells[0], again), "ttft_p50_ms"] for again in (False, True)]
    same = control(f"{pickers[0]} again − {pickers[0]}, TTFT p50, ms", *twice)
    doubt = "" if same.agrees else same.doubt
    return BenchResult(
        unit=MIXED,
        samples={
            f"{FIGURES[figure].name}, {place}": values
            for (place, figure), values in samples.items()
            if figure in FIGURES
        },
        claims=list(_claims(samples, pickers, cells)),
        controls=[same],
        tables=[map_table(found, affine, doubt), published_table(found, load.turns), figures_table(found)],
        charts=[each for figure in ("ttft_p50_ms", "ttft_p99_ms") for each in heats_of(found, figure, rounds, doubt)],
        notes=[
            f"n = {rounds} rounds × {load.seconds:g} s, of which the first {percent(LEAD)} is not counted",
            "open loop; times count from when a request was due",
            f"a cell is decided by {LEAST_ROUNDS} rounds or more",
            f"{REPLICAS} replicas; conversations of {load.turns} turns, {PROMPT_TOKENS} tokens in the first prompt",
            (
                "load: of what the replicas carry with empty caches, "
                f"{capacity_rps(cells[0].share, load.turns):.0f} rps with {percent(cells[0].share)} shared"
            ),
            f"goodput: answers per second whose first token came within {SLO_MS:g} ms",
            "hit rate: cached of all tokens of prompts; imbalance: requests of the busiest replica over the mean",
            "only runs count whose correctness is valid, picks included; others are named as missing",
        ],
    )


def _claims(
    samples: Mapping[tuple[Place, str], list[float]], pickers: Sequence[str], cells: Sequence[Cell]
) -> Iterator[Claim]:
    """The pick's own time against the time to the first token, in the cell where it takes the greatest part."""
    for picker in pickers:
        shares = [samples[Place(picker, cell), _PICK] for cell in cells if (Place(picker, cell), _PICK) in samples]
        if worst := max((each for each in shares if not math.isnan(typical(each))), key=typical, default=None):
            yield Claim(f"{picker}: the pick's own time / TTFT, p50, worst cell", median(worst), at_most=PICK_AT_MOST)


BENCH = Bench(
    name="pickers",
    question="Which picker of replicas wins, by share of the prompt, load and age of the signal?",
    run=run,
    rounds=rounds_to_tell(1),
    options=(
        Option(name="pickers", help="Compare only these pickers.", choices=_of_gateways),
        Option(
            name="foreign",
            help=f"Compare these third-party routers also, which pick by {FOREIGN_PICKER}.",
            choices=_third_party,
        ),
        Option(
            name="shares",
            help="Share of a first prompt that is a system prompt.",
            choices=lambda: [f"{each:g}" for each in SHARES],
        ),
        Option(
            name="loads",
            help="Offered load, per cent of what replicas carry with empty caches.",
            choices=lambda: [f"{each:g}" for each in LOADS],
        ),
        Option(name="ages", help="Age of the signal of load, ms.", choices=lambda: [f"{each:g}" for each in AGES_MS]),
        Option(
            name="skews",
            help="How unequal system prompts are, 0: equal; a sheet of the map for each.",
            choices=lambda: [f"{each:g}" for each in SKEWS],
        ),
        Option(name="seconds", help="Length of a trial, one number.", choices=lambda: ["2", "4"]),
        Option(name="turns", help="Turns of a conversation, one number.", choices=lambda: ["1", "2", "4"]),
    ),
    controls=1,
)
