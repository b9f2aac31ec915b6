"""Pictures are well-formed, stay within their frame, escape what they show, and say in words what colours say."""

import re
from itertools import combinations
from xml.etree import ElementTree as ET

import pytest

from lab import CHECKOUT
from lab.measure.compare import Interval
from lab.plugins.workshop.figures import Figure, beside, guesses, show, table
from lab.plugins.workshop.flow import WIDTH, Edge, Flow, Node, draw_flow
from lab.plugins.workshop.guess import Guess
from lab.plugins.workshop.traffic import flow_of, recent
from lab.plugins.workshop.users import users_picture
from lab.plugins.workshop.watch import ProbeResult
from lab.report.palette import DARK, LIGHT
from lab.routing.document import read_path

CALLERS = ("homepage", "search", "playback", "payments", "recommendations")
DOCUMENT = read_path(CHECKOUT / "routes.yaml").document


def request(topology: str, caller: str, cluster: str, status: str, done_ns: int) -> ProbeResult:
    return ProbeResult(topology, caller, "", cluster, "", status, "", 0.0, done_ns)


def units(**states: str) -> dict[str, tuple[str, str]]:
    named = {
        **{f"ml-cluster-{number}-{letter}": "model" for number in range(1, 7) for letter in "ab"},
        "gateway-1": "gateway",
        "gateway-2": "gateway",
        "central-envoy": "central-envoy",
        **{f"{caller}-resolver": "resolver" for caller in CALLERS},
        **{f"{caller}-sidecar": "sidecar" for caller in CALLERS},
        **dict.fromkeys(CALLERS, "caller"),
    }
    return {name: (role, states.get(name.replace("-", "_"), "running")) for name, role in named.items()}


def requests(topology: str) -> list[ProbeResult]:
    answered = [
        request(topology, caller, f"ml-cluster-{number}", "OK", 0)
        for number, caller in enumerate(CALLERS, 1)
        for _ in range(10 * number)
    ]
    return [*answered, *[request(topology, "homepage", "", "UNAVAILABLE", 0)] * 3]


def html_of(figure: Figure) -> str:
    text = figure._repr_html_()
    ET.fromstring(text)  # noqa: S314 (our own); well-formed
    return text


@pytest.mark.parametrize("topology", ["direct", "gateway", "gateway-header", "mesh", "proxyless"])
def test_every_request_arrives_once(topology: str) -> None:
    flow = flow_of(requests(topology), topology, units(), DOCUMENT)
    last = {node.name for node in flow.columns[-1]}
    first = {node.name for node in flow.columns[0]}

    assert sum(edge.answered for edge in flow.edges if edge.end in last) == 150
    assert sum(edge.failed for edge in flow.edges) == 3
    assert sum(edge.failed for edge in flow.edges if edge.start == "homepage") == 3
    assert first == set(CALLERS)


def test_who_is_shared_stands_once_and_who_stands_beside_stands_five_times() -> None:
    shared = flow_of(requests("gateway"), "gateway", units(), DOCUMENT)
    beside_each = flow_of(requests("mesh"), "mesh", units(), DOCUMENT)

    assert [node.name for node in shared.columns[1]] == ["gateway"]
    assert [f"{caller}-sidecar" for caller in CALLERS] == [node.name for node in beside_each.columns[1]]


def test_units_that_do_not_run_are_named() -> None:
    one = flow_of([], "gateway", units(gateway_1="exited"), DOCUMENT)
    both = flow_of([], "gateway", units(gateway_1="exited", gateway_2="exited"), DOCUMENT)
    sidecar = flow_of([], "mesh", units(homepage_sidecar="paused"), DOCUMENT)

    assert (one.columns[1][0].down, one.columns[1][0].notes[0]) == (False, "✗ gateway-1: exited")
    assert both.columns[1][0].down
    assert "✗ down" in html_of(show(both))
    assert [node.down for node in sidecar.columns[1]] == [True, False, False, False, False]


@pytest.mark.parametrize("topology", ["direct", "gateway", "mesh"])
def test_boxes_keep_apart_and_within_the_frame(topology: str) -> None:
    drawn = draw_flow(flow_of(requests(topology), topology, units(gateway_1="exited"), DOCUMENT))

    for box in drawn.nodes:
        assert box.x >= 0
        assert box.x + box.width <= WIDTH
        assert box.y >= 0
        assert box.y + box.height <= drawn.height
        assert all(8.4 * len(text.text) <= box.width for text in box.texts[:1])
    for one, other in combinations(drawn.nodes, 2):
        assert (
            one.x + one.width <= other.x
            or other.x + other.width <= one.x
            or one.y + one.height <= other.y
            or other.y + other.height <= one.y
        )
    places = [(edge.label.x, edge.label.y) for edge in drawn.edges]
    for (x, y), (other_x, other_y) in combinations(places, 2):
        assert x != other_x or abs(y - other_y) >= 15


def test_the_thickest_line_has_most() -> None:
    nodes = [[Node("a")], [Node("b"), Node("c"), Node("d")]]
    edges = [Edge("a", "b", 100), Edge("a", "c", 1), Edge("a", "d", 0, failed=1_000)]
    b, c, d = draw_flow(Flow("t", nodes, edges, "run-1")).edges

    assert b.width > c.width > 1
    assert (b.solid, b.dashed) == (True, False)
    assert (d.solid, d.dashed) == (False, True)
    assert [edge.label.text for edge in (b, c, d)] == ["100", "1", "1,000 failed"]


def test_recent_is_counted_back_from_the_last() -> None:
    every = [request("mesh", "search", "c", "OK", second * 10**9) for second in range(10)]

    assert recent(every, 2) == every[7:]
    assert recent(every, None) == every
    assert recent([], 2) == []


def test_a_name_in_a_table_is_not_broken_at_its_hyphens() -> None:
    text = html_of(table("t", ["units"], [("ml-cluster-1-a, x",)]))

    assert '<span class="word">ml-cluster-1-a,</span> x</td>' in text


def test_figures_follow_the_theme_and_escape_what_they_show() -> None:
    text = html_of(table("<b>", ["<i>", "n"], [("<script>", 1), ("x", "1,000")], "&"))

    assert "<script>" not in text
    assert len(re.findall('<td class="number">', text)) == 2
    for theme, palette in (('[data-jp-theme-light="false"]', DARK), (".lab-figure {", LIGHT)):
        assert theme in text
        assert palette["card"] in text
    assert "prefers-color-scheme: dark" in text


def interval(low: float, estimate: float, high: float) -> Interval:
    return Interval(estimate=estimate, low=low, high=high, confidence=0.95, rounds=3)


def test_guesses_stand_beside_what_was_measured() -> None:
    guess = Guess("t", ["mesh", "gateway"], unit="ms")
    unguessed = html_of(guesses(guess, {"mesh": 0.4, "gateway": 0.8}))
    guess.give({"mesh": 1, "gateway": "12,5"})
    guessed = html_of(guesses(guess, {"mesh": 0.4, "gateway": 0.8}))

    assert "your guess</text>" not in unguessed
    assert guessed.count("your guess</text>") == 2
    assert "12.5</text>" in guessed
    assert "Measured: mesh 0.4 ms; gateway 0.8 ms." in guessed


def test_words_follow_the_intervals() -> None:
    guess = Guess("t", ["mesh", "gateway", "resolve"], unit="ms")
    measured = {"mesh": interval(-0.3, 0.2, 0.5), "gateway": interval(1.9, 2.15, 2.4), "resolve": interval(-4, -3.3, 1)}

    text = html_of(guesses(guess, measured))

    assert "mesh ≈ 0 ms [−0.30, 0.50]; gateway +2.1 ms [1.9, 2.4]; resolve ≈ 0 ms [−4.0, 1.0]." in text
    assert text.count("≈ 0</text>") == 2
    assert "In brackets: 95 % intervals over 3 rounds." in text
    assert "−3.3" not in text


def test_a_measurement_below_zero_has_a_bar_and_a_minus_sign() -> None:
    text = html_of(guesses(Guess("t", ["mesh", "gateway"], unit="ms"), {"mesh": -0.514, "gateway": 1.0}))

    assert "−0.514</text>" in text
    assert "-0.514</text>" not in text
    assert ">−0.6</text>" in text  # the axis begins there


def test_users_who_move_are_framed() -> None:
    text = html_of(beside(users_picture(["v1", "v2", "v2"], ["v1", "v1", "v2"], "title")))

    assert text.count(' moved"') == 1
    assert "3 users; v1: 1, v2: 2. Framed: the 1 whose version changed." in text
    assert repr(users_picture(["v1"], title="x")) == "[x]"
