"""The console in a real browser, beside a real lab: it asks nobody else, and shows who is hit and what checkers say."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from lab.history import read_parquet
from lab.lab import Lab
from lab.plugins.console import Watcher
from lab.report.palette import VERMILION
from lab.runs import LoadOptions, ParallelResult
from lab.runs.folder import HISTORY, SPOOL, RunFolder
from lab.runtime.cancellation import CancelToken
from lab.waiting import eventually
from tests.browser import Page, await_true, chromium
from tests.lab_command import json_of, run_lab
from tests.labs import ROUTES, lab_up, write_spec
from tests.plugins.console.builders import serving

TOPOLOGIES = ("gateway", "mesh")
# With a rule, so that there is one to explain, and a version to roll out.
RULES = ROUTES.replace(
    "    default: cw-ranker@v1\n",
    "    default: cw-ranker@v1\n    rules:\n      - {name: tv, when: {device: [tv]}, use: cw-ranker@v1}\n",
).replace(
    "      v1: {cluster: ml-cluster-1}\n", "      v1: {cluster: ml-cluster-1}\n      v2: {cluster: ml-cluster-1}\n"
)
HOSTILE = "<img src=hostile onerror='window.fooled = 1'>\"</script><script>window.fooled = 1</script>"
LOADED = "document.querySelector('#about').textContent.includes('load is running')"
SOON = timedelta(seconds=60)
# Where on the page the first dot of the mesh is; null if there is none.
DOT = """(() => {
  const canvas = document.querySelector('[data-topology=mesh] canvas');
  if (!canvas?.width) return null;
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0);
  const pixels = copy.getImageData(0, 0, canvas.width, canvas.height).data;
  const found = pixels.findIndex((each, place) => place % 4 === 3 && each === 255);
  const pixel = (found - 3) / 4, box = canvas.getBoundingClientRect(), scale = box.width / canvas.width;
  if (found < 0) return null;
  return [box.left + (pixel % canvas.width) * scale, box.top + Math.floor(pixel / canvas.width) * scale];
})()"""
RED = tuple(int(VERMILION[place : place + 2], 16) for place in (1, 3, 5))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    with lab_up(folder, spec=write_spec(folder, routes=RULES)) as lab:
        yield lab


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as page:
        yield page


@pytest.fixture(scope="module")
def address(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    watcher = Watcher(lab)
    watcher.start()
    try:
        with serving(watcher.board, lab, watcher) as console:
            door = tmp_path_factory.mktemp("door") / "console.html"
            console.write_door(door)
            yield door.as_uri()
    finally:
        watcher.stop()


class Load:
    """Load on all topologies at the same time, until the block ends."""

    def __init__(self, lab: Lab, duration_s: float, **options: Any) -> None:
        self._cancel, self._pool = CancelToken(), ThreadPoolExecutor(1)
        every = {"caller": "homepage", "rate": 10, "duration_s": duration_s, "streams": 0, **options}
        loads = [LoadOptions(topology=each, **every) for each in TOPOLOGIES]
        self.run: Future[ParallelResult] = self._pool.submit(lab.load_parallel, loads, cancel_token=self._cancel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cancel.cancel()
        self._pool.shutdown()


def open_page(page: Page, address: str) -> None:
    """Opens the page by the file that sends the token."""
    page.complaints.clear()
    page.requested.clear()
    page.resize(1280)
    page.call("Page.navigate", url=address)
    await_true(page, "location.pathname === '/' && !!document.querySelector('[data-topology] svg')")


def all_have_sent(lab: Lab) -> bool:
    """Whether each of the runs of the same time that began last has records of requests."""
    latest = RunFolder(lab.runs / "latest")
    spools = [latest.path / name / SPOOL for name in latest.together]
    return bool(spools) and all(each.exists() and each.stat().st_size for each in spools)


def edge(topology: str, name: str) -> str:
    return f"document.querySelector('[data-topology={topology}] [data-edge=\"{name}\"]')"


def is_red(topology: str, name: str) -> str:
    return f"getComputedStyle({edge(topology, name)}).stroke === 'rgb({RED[0]}, {RED[1]}, {RED[2]})'"


def figure(topology: str, name: str) -> str:
    return f"Number(document.querySelector('[data-topology={topology}] [data-figure={name}]')?.textContent)"


def hit(topology: str) -> str:
    return f"document.querySelector('[data-topology={topology}] .hit').textContent"


def test_the_page_asks_no_other_host_and_complains_of_nothing(page: Page, address: str) -> None:
    open_page(page, address)
    for width in (1280, 1920, 3840):
        page.resize(width)
        assert page.overflowing() == []
        page.keep_picture(f"page-{width}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.violations("minor", "moderate", "serious", "critical") == []
    assert page.complaints == []
    here = page.evaluate("location.host")
    assert {urlsplit(each).netloc for each in page.requested} == {urlsplit(address).netloc, here}
    assert here.startswith("127.0.0.1:")


def test_a_killed_sidecar_turns_its_edge_red_and_no_other_until_it_is_healed(
    page: Page, lab: Lab, address: str
) -> None:
    open_page(page, address)
    with Load(lab, 60):
        await_true(page, LOADED)
        await_true(page, f"{figure('mesh', 'answered')} > 10 && {figure('gateway', 'answered')} > 10")
        assert page.evaluate(f"{edge('mesh', 'homepage>homepage-sidecar')}.classList.contains('busy')")

        kill = lab.faults.inject("kill", "homepage-sidecar")
        await_true(page, is_red("mesh", "homepage>homepage-sidecar"))
        red = page.evaluate(
            "[...document.querySelectorAll('[data-topology=mesh] .edge.bad')].map(each => each.dataset.edge)"
        )
        assert red == ["homepage>homepage-sidecar"]
        await_true(
            page, "document.querySelector('[data-topology=mesh] .place.down')?.textContent.includes('sidecar') === true"
        )

        kill.heal()
        await_true(page, f"!({is_red('mesh', 'homepage>homepage-sidecar')})")
        await_true(page, f"{edge('mesh', 'homepage-sidecar>ml-cluster-1')}.classList.contains('busy')")
        assert page.evaluate(figure("mesh", "failed")) > 0
    assert page.complaints == []


def test_verdicts_tick_and_at_the_end_say_the_same_as_lab_check(page: Page, lab: Lab, address: str) -> None:
    open_page(page, address)
    with Load(lab, 8, drivers=2) as load:
        await_true(page, "document.querySelector('#verdicts').dataset.final === 'false'")
        await_true(page, "document.querySelectorAll('[data-checker=routing] .chip.valid').length === 2")
        lab.faults.inject("kill", "homepage-sidecar").heal()
        folder = load.run.result().folder
    await_true(page, "document.querySelector('#verdicts').dataset.final === 'true'")

    for checked in json.loads(run_lab(None, "check", str(folder), "--json").stdout)["runs"]:
        topology = Path(checked["run_dir"]).name.removesuffix("-homepage")
        assert shown_verdicts(page, topology) == {
            each["checker"]: [each["outcome"], len(each["violations"])] for each in checked["verdicts"]
        }
        claims = (
            f"[...document.querySelectorAll('[data-topology={topology}] [data-claim]')].map(each => each.textContent)"
        )
        explained = {"availability": "failures explained by your fault"} if checked["failed"] else {}
        said = {**checked["claims"], **(explained if checked["claims"]["availability"] == "valid" else {})}
        assert page.evaluate(claims) == [f"{claim}: {words}" for claim, words in said.items()]
        for name, count in (("answered", "ok"), ("failed", "failed"), ("misrouted", "misrouted"), ("torn", "torn")):
            assert page.evaluate(figure(topology, name)) == checked[count]


def shown_verdicts(page: Page, topology: str) -> dict[str, list[object]]:
    found: dict[str, list[object]] = page.evaluate(
        f"Object.fromEntries([...document.querySelectorAll('[data-of={topology}] .chip')].map(each => "
        "[each.closest('tr').dataset.checker, [each.textContent.split(',')[0], Number(each.dataset.violations)]]))"
    )
    return found


def test_a_stranger_starts_load_kills_a_gateway_by_clicking_it_and_heals_it(page: Page, lab: Lab, address: str) -> None:
    open_page(page, address)
    await_true(page, "document.querySelector('#load-topology').value === 'gateway,mesh'")
    page.evaluate("document.querySelector('#load-topology').form.elements.rate.value = 10")
    page.evaluate("document.querySelector('#start-load').click()")
    await_true(page, LOADED)
    await_true(page, f"{figure('mesh', 'answered')} > 10 && {figure('gateway', 'answered')} > 10")

    page.evaluate("document.querySelector('[data-topology=gateway] .place[aria-label^=gateway]').focus()")
    page.press("Enter")
    await_true(page, "document.querySelector('#unit').open")
    offered = "[...document.querySelectorAll('#unit .rows button')].map(each => each.textContent)"
    assert "Cut off" not in page.evaluate(offered)  # which processes cannot be
    press(page, "Kill gateway-1")
    await_true(page, is_red("gateway", "homepage>gateway"))
    await_true(page, f"!{offered}.includes('Kill')")
    await_true(page, f'{hit("gateway")} === "Fail now: 100 % of homepage\'s requests"')
    assert page.evaluate(hit("mesh")) == "No request fails now"
    page.keep_picture("gateway-killed")
    assert page.evaluate(is_red("mesh", "homepage>homepage-sidecar")) is False
    assert page.violations("minor", "moderate", "serious", "critical") == []

    press(page, "Heal gateway-1 of kill-")
    await_true(page, f"!({is_red('gateway', 'homepage>gateway')})")
    page.evaluate("document.querySelector('#load-topology').form.elements.rate.value = 20")
    await_true(page, "document.querySelector('#start-load').textContent === 'Restart with these'")
    page.evaluate("document.querySelector('#start-load').click()")
    await_true(page, "[...document.querySelectorAll('#log code')].some(each => each.textContent.includes('--rate=20'))")
    await_true(page, LOADED)
    # A caller that has sent nothing is unknown, as it should be.
    eventually("every caller has sent something", lambda: all_have_sent(lab), within=SOON)
    page.evaluate("document.querySelector('#stop-load').click()")
    await_true(page, "document.querySelector('#verdicts').dataset.final === 'true'")
    await_true(page, "document.querySelector('#start-load').textContent === 'Start load'")
    outputs = page.evaluate("[...document.querySelectorAll('#log li')].map(each => each.textContent)")
    assert all(" done" in each for each in outputs), outputs  # what was sent until then is judged
    commands = page.evaluate("[...document.querySelectorAll('#log code')].map(each => each.textContent).reverse()")
    assert [command.split(" --")[0] for command in commands] == [
        "lab load",
        "lab fault inject kill gateway-1",
        commands[2].split(" --")[0],
        "lab load",
    ]
    assert commands[2].startswith("lab fault heal kill-")
    assert "--rate=20 " in commands[3]
    assert page.complaints == []


def test_one_request_shows_the_rule_that_routes_explain_shows(page: Page, lab: Lab, address: str) -> None:
    open_page(page, address)
    with Load(lab, 4) as load:
        folder = load.run.result().folder
    record = next(each for each in read_parquet(folder / "mesh-homepage" / HISTORY) if each.status == "OK")
    await_true(page, "document.querySelector('#verdicts').dataset.final === 'true'")

    page.evaluate(f"document.querySelector('#find input').value = '{record.request_id}'")
    page.evaluate("document.querySelector('#find button').click()")
    await_true(page, "document.querySelector('#request').open")
    told = page.evaluate("document.querySelector('#request').textContent")
    explained = assert_rules_as_explained(page, lab)
    assert f"→ routing key {explained['routing_key']}, of revision {explained['revision']}" in told
    assert f"{record.model}@{record.version} on {record.cluster}, replica {record.replica}" in told
    assert f"Proof: item {record.item_id} scores {record.score}" in told
    assert page.evaluate("[...document.querySelectorAll('#request tbody th')].map(each => each.textContent)") == [
        "homepage-sidecar"
    ]
    assert page.violations("minor", "moderate", "serious", "critical") == []
    assert page.complaints == []


def test_hostile_names_are_text_on_the_page(page: Page, lab: Lab, address: str, tmp_path: Path) -> None:
    open_page(page, address)
    routes = tmp_path / "routes.yaml"
    routes.write_text(RULES)
    with Load(lab, 6, contexts={"device": (HOSTILE,), "country": (HOSTILE,)}) as load:
        revision = lab.routes.publish(routes, comment=HOSTILE)
        folder = load.run.result().folder
    record = next(each for each in read_parquet(folder / "mesh-homepage" / HISTORY) if each.status == "OK")
    await_true(page, "document.querySelector('#verdicts').dataset.final === 'true'")
    await_true(page, band(revision))

    page.evaluate(f"document.querySelector('#find input').value = '{record.request_id}'")
    page.evaluate("document.querySelector('#find button').click()")
    await_true(page, "document.querySelector('#request').open")

    assert page.evaluate("document.querySelector('#request').textContent").count(HOSTILE) >= 2
    assert page.evaluate("document.querySelectorAll('[src=hostile], [onerror]').length") == 0
    assert page.evaluate("window.fooled === undefined")
    assert page.complaints == []


def assert_rules_as_explained(page: Page, lab: Lab) -> Mapping[str, Any]:
    """Compares the rules of the request on the page with those of the command that it offers; returns the latter."""
    command = page.evaluate("document.querySelector('#request .copy').getAttribute('aria-label')")
    explained: Mapping[str, Any] = json_of(
        run_lab(lab, *shlex.split(command.removeprefix("Copy as command: lab "))[:-2], "--json")
    )
    rules = [f"{'✓' if each['matched'] else '✗'} {each['rule']}: {each['reason']}" for each in explained["rules"]]
    default = ["✓ default"] if explained["rule"] == "default" else []
    assert page.evaluate("[...document.querySelectorAll('#rules li')].map(each => each.textContent)") == rules + default
    return explained


def test_a_dot_that_is_clicked_shows_the_rule_that_routes_explain_shows(page: Page, lab: Lab, address: str) -> None:
    open_page(page, address)
    with Load(lab, 60):
        await_true(page, LOADED)
        eventually("a dot was clicked", lambda: click_a_dot(page), within=SOON)
        assert page.evaluate("document.querySelector('#request-title').textContent").startswith("Request ")
        explained = assert_rules_as_explained(page, lab)
    assert f"routing key {explained['routing_key']}" in page.evaluate("document.querySelector('#request').textContent")
    page.keep_picture("request")
    assert page.complaints == []


def click_a_dot(page: Page) -> bool:
    """Holds the pointer over a dot, which slows it down, then clicks it; returns whether a request is shown."""
    for act in (page.hover, page.click):
        if where := page.evaluate(DOT):
            act(*where)
    return bool(page.evaluate("document.querySelector('#request').open"))


def test_publish_roll_out_and_roll_back_are_buttons_that_add_bands(page: Page, lab: Lab, address: str) -> None:
    open_page(page, address)
    with Load(lab, 120):
        await_true(page, LOADED)
        await_true(page, f"{figure('mesh', 'answered')} > 10")
        before = lab.routes.show().revision

        submit(page, "publish", comment="by a button")
        await_true(page, band(before + 1))
        submit(
            page, "roll", version="cw-ranker@v2", steps="50,100", hold="1", rate="10", **{"abort-on": "error-rate>20%"}
        )
        await_true(page, f"{band(before + 2)} && {band(before + 3)}")
        await_true(page, state_of_newest("roll", "done"))
        submit(page, "rollback", revision=str(before + 1))
        await_true(page, f"{band(before + 4)} && {state_of_newest('routes rollback', 'done')}")
        page.keep_picture("roll")

    assert [each.comment for each in lab.routes.history()[before : before + 3]] == [
        "by a button",
        "roll cw-ranker v1→v2 50 %",
        "roll cw-ranker v1→v2 100 %",
    ]
    assert lab.routes.show().document == lab.routes.show(before + 1).document
    assert page.complaints == []


def test_a_flood_is_a_button_and_a_bar_until_it_is_healed(page: Page, lab: Lab, address: str) -> None:
    open_page(page, address)
    with Load(lab, 60):
        await_true(page, LOADED)
        submit(page, "flood", target="noisy", topology="gateway", times="0.1", seconds="60")
        await_true(page, "!!document.querySelector('.fault[data-fault*=\"noisy flooding\"]')")
        press(page, "Heal noisy of flood-")
        await_true(page, "document.querySelector('#faults span').textContent === 'none in force'")
    assert [each.id for each in lab.faults.active()] == []
    assert page.complaints == []


def submit(page: Page, action: str, **values: str) -> None:
    """Fills the form of an action once it offers these values, and presses its button."""
    form = f"document.querySelector('form[data-action={action}]')"
    for name, value in values.items():
        field = f"{form}.elements[{json.dumps(name)}]"
        await_true(page, f"({field}.value = {json.dumps(value)}, {field}.value) === {json.dumps(value)}")
    page.evaluate(f"{form}.querySelector('button').click()")


def band(revision: int) -> str:
    return f"!!document.querySelector('.band[data-revision=\"{revision}\"]')"


def state_of_newest(command: str, state: str) -> str:
    return (
        f"document.querySelector('#log li code')?.textContent.startsWith('lab {command} ')"
        f" && document.querySelector('#log li').dataset.state === '{state}'"
    )


def test_a_publish_adds_a_band_and_the_past_can_be_shown_again(page: Page, lab: Lab, address: str) -> None:
    open_page(page, address)
    with Load(lab, 60):
        await_true(page, LOADED)
        await_true(page, f"{figure('mesh', 'answered')} > 10")
        revision = lab.routes.publish(lab.folder.parent.parent / "routes.yaml", comment="again")
        await_true(page, f"!!document.querySelector('.band[data-revision=\"{revision}\"]')")
        await_true(page, "document.querySelector('#moment').textContent === 'live'")

        page.evaluate("scrubber.value = Number(scrubber.min) + 4; scrubber.dispatchEvent(new Event('input'))")
        await_true(page, "document.querySelector('#moment').textContent.includes('1.0 s after the beginning')")
        await_true(page, f'{hit("mesh")} === "No request fails then"')
        assert "p50 then" in page.evaluate("document.querySelector('[data-topology=mesh] dl').textContent")
        page.evaluate("document.querySelector('#live').click()")
        await_true(page, "document.querySelector('#moment').textContent === 'live'")
    assert page.complaints == []


def press(page: Page, label: str) -> None:
    """Presses the button whose name for screen readers begins so, once it is there."""
    await_true(page, f"!!document.querySelector('button[aria-label^=\"{label}\"]')")
    page.evaluate(f"document.querySelector('button[aria-label^=\"{label}\"]').click()")


def test_the_units_of_a_lab_that_is_taken_down_are_grey(page: Page, mini_lab: Lab, tmp_path: Path) -> None:
    watcher = Watcher(mini_lab)
    watcher.start()
    try:
        with serving(watcher.board, mini_lab, watcher) as console:
            console.write_door(tmp_path / "console.html")
            open_page(page, (tmp_path / "console.html").as_uri())
            await_true(page, "document.querySelectorAll('.unit').length > 3 && !document.querySelector('.unit.gone')")
            mini_lab.down()
            await_true(page, "[...document.querySelectorAll('.unit')].every(each => each.matches('.gone'))")
            await_true(page, "document.querySelector('#about').textContent.includes('the lab is down')")
            assert page.evaluate("document.querySelectorAll('.place.down').length") == 0
    finally:
        watcher.stop()
