"""Tiers of tests, derived from what a test's code and fixtures name, followed through all code of the tests.

- ``unit``: starts nothing.
- ``server``: starts servers in this process, or other processes.
- ``lab``: brings labs up.
- ``slow``: starts something of :data:`_SLOW`.

Each is a marker, for ``pytest -m``. :class:`Guard` fails a test that starts more than its tier says.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from functools import cache, partial, wraps
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import grpc
import grpc.aio
import pytest

from lab import CHECKOUT
from tests.proxies import GATEWAYS

TESTS = CHECKOUT / "tests"

_SERVER = """
aiohttp.web asyncio.base_events asyncio.streams.start_ asyncio.subprocess grpc.aio._server.server grpc.server
http.server multiprocessing nbclient socket socketserver subprocess doctor lab.cli.doctor lab.ops.doctor
lab.plugins.bench.harness.metronome lab.plugins.console.actions lab.plugins.console.server lab.plugins.bench.since
lab.load.coordinator.Shards lab.plugins.locust lab.roles._plan.plan lab.runs.version lab.runtime.ports
lab.runtime.process lab.transport.relay lab.transport.rest_server.RestServer lab.transport.servers.listen
models.proto.generate lab.runtime.choose tests.fuzz.targets tests.runtime.conftest.engine
tests.cli.test_hostile_options.test_a_hostile_file_is_refused tests.cli.test_load_rate.test_the_command_chooses
"""
"""Modules and functions that start servers or processes; all whose qualified names begin so."""
_LABS = """
docs.site.answers.lab_of_answers lab.plugins.bench.harness.environment.open_environment
lab.plugins.bench.harness.validation lab.plugins.bench.scale.run lab.plugins.bench.scale.scale_lab.open_scale_lab
lab.runtime.process.runtime.ProcessRuntime lab.runtime.process.starting lab.plugins.workshop.simulated_hosts
"""
"""Likewise, what brings labs up, beside :class:`lab.lab.Lab`."""
_SLOW = """
docs.site.answers lab.plugins.bench lab.plugins.conform.controls nbclient tests.browser tests.docs_pages.run_
tests.docs.test_examples.test_a_bench_of_ones_own tests.docs.test_site.build tests.e2e.test_proxies
tests.plugins.play.test_on_a_lab
tests.extending.test_outside_topology.test_what_compares tests.fuzz tests.mutants tests.negative tests.notebooks
tests.plugins.bench tests.plugins.conform.test_checks.test_a_bug_is_caught
tests.plugins.endpoint_picker.test_gateway_profile.test_a_bug_is_caught tests.plugins.foreign_pickers
tests.runtime.conftest.engine tests.runtime.test_bundle tests.scenarios.test_installed
"""
"""Likewise, what takes long where a test starts something."""
_SLOW_VALUES = {"compose", "kubernetes"}
"""Likewise, of a test's parameters; and names of third-party proxies where those are started."""
_LAB = "lab.lab.Lab"
_PROXIES = "tests.proxies"
_LISTS = {each: tuple(each.split()) for each in (_SERVER, _LABS, _SLOW, _PROXIES)}
_PLAIN = str | int | float | None
"""Types of values that name nothing."""

TIERS = ("unit", "server", "lab", "slow")

_EVENTS = {"grpc.server", "os.fork", "os.posix_spawn", "socket.bind", "subprocess.Popen"}
"""By which Python's audit hooks show that something starts."""
_UNIT = "LAB_UNIT"  # in the environment of a lab's unit


def mark(items: Iterable[pytest.Item]) -> None:
    """Gives each test its tier as a marker; other suites that load this have none."""
    for item in items:
        if isinstance(item, pytest.Function) and TESTS in item.path.parents:
            item.add_marker(_tier_of(item))


def _tier_of(item: pytest.Function) -> str:
    values = [*item.callspec.params.values()] if hasattr(item, "callspec") else []
    texts = {each for each in values if isinstance(each, str)}
    manager = item.session._fixturemanager
    fixtures = [*item._fixtureinfo.name2fixturedefs.values(), *(manager.getfixturedefs(each, item) for each in texts)]
    functions = (item.function, *(each[-1].func for each in fixtures if each))
    objects = (each for each in values if not isinstance(each, _PLAIN))
    found = frozenset[str]().union(*map(_found_by, functions), *map(_found, map(_names_from, objects)))
    return _tier(found, texts)


def tier_of_names(names: frozenset[str], values: AbstractSet[str] = frozenset()) -> str:
    """The tier of code that names these, with these values of parameters."""
    return _tier(_found(names), values)


def _tier(found: frozenset[str], values: AbstractSet[str]) -> str:
    is_lab = found >= {_LAB, "up"} or _LABS in found
    if not is_lab and not found >= {_LAB, "down"} and _SERVER not in found:
        return "unit"
    slow_values = _SLOW_VALUES | (GATEWAYS.keys() if _PROXIES in found else set())
    if _SLOW in found or values & slow_values:
        return "slow"
    return "lab" if is_lab else "server"


def _found(names: frozenset[str]) -> frozenset[str]:
    """What of these decides a tier, and the lists that have one of them."""
    return names & {_LAB, "up", "down"} | {each for each in _LISTS if _any_begins(names, _LISTS[each])}


@cache
def _found_by(function: Callable[..., Any]) -> frozenset[str]:
    return _found(_names_from(function))


def _any_begins(names: Iterable[str], begin: tuple[str, ...]) -> bool:
    return any(name.startswith(begin) for name in names if "." in name or name in begin)


def _names_from(start: object) -> frozenset[str]:
    """Qualified names of all that code names from here on, within the tests, and the words of that code."""
    names, seen, left = set[str](), set[int](), [start]
    while left:
        each = left.pop()
        if id(each) not in seen:
            seen.add(id(each))
            here, following = _direct(each) if isinstance(each, FunctionType | type) else _looked_at(each)
            names |= here
            left += following
    return frozenset(names)


@cache
def _direct(each: FunctionType | type) -> tuple[frozenset[str], list[object]]:
    return _looked_at(each)


def _looked_at(each: object) -> tuple[frozenset[str], list[object]]:
    """Names and words of this alone, and what of the tests can be reached from here."""
    names = {_name_of(each)}
    if isinstance(each, FunctionType) and _is_ours(each):
        names |= _words_in(each.__code__)
    following: list[object] = []
    for other in _next(each):
        if isinstance(other, FunctionType | type | ModuleType) and not _is_ours(other):
            names.add(_name_of(other))
            following += getattr(other, "__bases__", ())
        elif not isinstance(other, str | int | None):
            following.append(other)
    return frozenset(names), following


def _name_of(what: object) -> str:
    if isinstance(what, FunctionType | type):
        return f"{what.__module__}.{what.__qualname__}"
    return what.__name__ if isinstance(what, ModuleType) else ""


def _next(each: object) -> Iterator[object]:
    """All that can be reached from here."""
    match each:
        case type():
            yield from each.__bases__
            if _is_ours(each):
                yield from vars(each).values()
        case FunctionType() if _is_ours(each):
            if hasattr(each, "hypothesis"):
                yield each.hypothesis.inner_test
            yield inspect.unwrap(each)
            yield from (cell.cell_contents for cell in each.__closure__ or ())
            words = _words_in(each.__code__) | set(re.findall(r"\w+", str(each.__annotations__)))
            yield from _values(each.__globals__, words)
        case FunctionType() | ModuleType():
            pass
        case _ if _is_ours(type(each)):
            yield type(each)
            yield from getattr(each, "__dict__", {}).values()
            yield from (getattr(each, name, None) for name in getattr(each, "__slots__", ()))
        case _:
            yield from _inside(each)


def _inside(each: object) -> Iterable[Any]:
    """What containers and Python's own wrappers of functions hold."""
    match each:
        case MethodType() | staticmethod() | classmethod():
            return (each.__func__,)
        case property():
            return (each.fget,)
        case partial():
            return (each.func, *each.args)
        case Mapping():
            return each.values()
        case list() | tuple() | set() | frozenset():
            return each
    return (each.__wrapped__,) if isinstance(each, type(_words_in)) else ()


def _values(where: Mapping[str, object], words: frozenset[str]) -> Iterator[object]:
    """Values of the words that are names here, and in the modules among those."""
    for name in words & where.keys():
        yield (value := where[name])
        if isinstance(value, ModuleType):
            yield from _values(vars(value), words - {name})


def _is_ours(what: Any) -> bool:
    return _is_of_tests(getattr(what, "__module__", "") or getattr(what, "__name__", ""))


@cache
def _is_of_tests(module: str) -> bool:
    """Not by its name: pytest leaves `tests` out where a folder is a package."""
    return (getattr(sys.modules.get(module), "__file__", "") or "").startswith(str(TESTS))


@cache
def _words_in(code: CodeType) -> frozenset[str]:
    """Names in code and its strings of one word, also in functions inside it."""
    words = {*code.co_names, *code.co_freevars}
    for each in code.co_consts:
        match each:
            case CodeType():
                words |= _words_in(each)
            case str() if each.isidentifier():
                words.add(each)
            case tuple():
                words |= {word for word in each if isinstance(word, str)}
    return frozenset(words)


class Guard:
    """Refuses to start for a test what its tier does not start."""

    def __init__(self) -> None:
        self._tier, self._refused = "", ""
        sys.addaudithook(self._hear)
        for module in (grpc, grpc.aio):  # their servers are made in C
            module.server = _audited(module.server)  # type: ignore[attr-defined]  # a module has what it was given

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS and self._tier in ("unit", "server"):
            is_unit = event == "os.posix_spawn" and _UNIT in (arguments[2] or ())
            if is_unit or self._tier == "unit":
                self._refused = f"{'a unit of a lab' if is_unit else event}: not in tier {self._tier}; see {__file__}"
                pytest.fail(self._refused)

    def watch(self, tier: str) -> None:
        """From now on refuses what is not in this tier; nothing if it is empty."""
        self._tier, self._refused = tier, self._refused if not tier else ""

    def judge(self) -> None:
        """Fails a test that caught the refusal."""
        if self._refused:
            pytest.fail(self._refused)

    @contextmanager
    def allowing(self) -> Iterator[None]:
        """For what the whole session needs, whichever test comes first."""
        tier = self._tier
        self.watch("")
        yield
        self.watch(tier)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Begins with a test's fixtures."""
        self.watch(next((mark.name for mark in item.iter_markers() if mark.name in TIERS), ""))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, None, None]:
        """See :meth:`judge`."""
        yield
        self.judge()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self) -> None:
        """Ends before fixtures do, some of which are other tests' too."""
        self.watch("")


def _audited(server: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(server)
    def new(*arguments: Any, **options: Any) -> Any:
        sys.audit("grpc.server")
        return server(*arguments, **options)

    return new
