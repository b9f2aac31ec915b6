"""Finds the kinds of things that one file adds, such as topologies, faults and checkers.

A :class:`Registry` collects the module-level values of one class from three places: the modules of a package, the entry
points of a group, and plugin files. Plugin files are named by the environment variable :data:`PLUGINS`, so that the
processes which a command starts find the same kinds as the command itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache, cached_property
from importlib.metadata import entry_points
from pathlib import Path
from threading import RLock
from traceback import walk_tb
from types import ModuleType
from typing import Protocol, TypeVar

from lab.errors import InputError
from lab.reading import MAX_SMALL_BYTES, read_bytes, read_text

PLUGINS = "LAB_PLUGINS"
"""Environment variable: absolute paths of plugin files, joined by ``os.pathsep``."""
PLUGINS_FILE = "plugins.txt"
"""In a lab's folder: the plugin files that it was brought up with, one a line."""


class Named(Protocol):
    """What a registry holds."""

    @property
    def name(self) -> str:
        """The name by which users ask for it."""


T = TypeVar("T", bound=Named)

# One of two threads that import the same modules may see them half imported. Reentrant, as plugins look kinds up.
_LOCK = RLock()


class Registry(Mapping[str, T]):
    """All values of one class, by name: those of the lab first, then those from outside, each group sorted by name.

    Nothing is imported before the first look-up. Plugins that are added later are seen by the next look-up.

    Args:
        kind: class of the values.
        package: package whose modules define them, one or more each; empty if all are from outside.
        group: entry-point group of other distributions; an entry names a module or a value.
        noun: what one is called in messages, e.g. ``topology``.
    """

    def __init__(self, kind: type[T], *, package: str = "", group: str, noun: str) -> None:
        self._kind, self._package, self._group, self._noun = kind, package, group, noun
        self._found: dict[str, dict[str, T]] = {}  # by the value of the environment variable

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __getitem__(self, name: str) -> T:
        """The value of that name.

        Raises:
            InputError: there is none; the message names those that there are.
        """
        found = self._all()
        if name not in found:
            close = get_close_matches(name, found, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InputError(f"{self._noun} {name!r} is not known; there are {', '.join(found)}{hint}")
        return found[name]

    def _all(self) -> dict[str, T]:
        known = os.environ.get(PLUGINS, "")
        if known not in self._found:
            with _LOCK:
                own = self._own
                if _loading:  # a plugin that looks kinds up while it loads sees the lab's own
                    return own
                outside = self._collect([*_entry_points(self._group), *map(_plugin, _distinct(plugins()))], own)
                if taken := sorted(outside.keys() & own.keys()):
                    raise InputError(
                        f"{self._noun} {taken[0]!r} from outside has the name of one of the lab's; rename it"
                    )
                self._found[known] = {**own, **outside}
        return self._found[known]

    @cached_property
    def _own(self) -> dict[str, T]:
        return self._collect(_modules_of(self._package) if self._package else (), {})

    def _collect(self, sources: Iterable[object], own: Mapping[str, T]) -> dict[str, T]:
        """The values of these modules and values, without the lab's own, which a plugin may import."""
        found: dict[str, T] = {}
        for value in (value for each in sources for value in [each, *getattr(each, "__dict__", {}).values()]):
            if not isinstance(value, self._kind) or value is own.get(value.name):
                continue
            if found.setdefault(value.name, value) is not value:
                raise InputError(f"two values define the {self._noun} {value.name!r}; rename one")
        return dict(sorted(found.items()))


def outside_files(group: str) -> list[Path]:
    """Source files of the modules that the entry points of a group name, and all plugin files."""
    files = (getattr(each, "__file__", None) for each in _entry_points(group))
    return [*(Path(file) for file in files if file), *plugins()]


def add_plugins(files: Sequence[Path]) -> None:
    """Makes the kinds in these files known to this process and to those that it starts.

    Raises:
        InputError: a file cannot be read or run; the message names it, with the line.
    """
    known = dict.fromkeys([*plugins(), *(file.resolve() for file in files)])
    with _LOCK:
        for path in known:
            _plugin(path)
        os.environ[PLUGINS] = os.pathsep.join(map(str, known))


def plugins() -> list[Path]:
    """The plugin files that this process knows."""
    return [Path(each) for each in os.environ.get(PLUGINS, "").split(os.pathsep) if each]


def keep_plugins(folder: Path) -> None:
    """Notes in a lab's folder which plugin files it was brought up with."""
    (folder / PLUGINS_FILE).write_text("".join(f"{path}\n" for path in plugins()))


def restore_plugins(folder: Path) -> None:
    """Makes the kinds known with which the lab in a folder was brought up; files that are gone are passed over."""
    kept = folder / PLUGINS_FILE
    if kept.exists():
        add_plugins([path for line in read_text(kept).splitlines() if (path := Path(line)).is_file()])


def _distinct(paths: Iterable[Path]) -> Iterable[Path]:
    """The files without copies of each other: a unit may find a plugin both where it is and beside itself."""
    return {read_bytes(path) if path.is_file() else path: path for path in paths}.values()


def _modules_of(package: str) -> Iterator[ModuleType]:
    folder = importlib.import_module(package)
    for module in pkgutil.iter_modules(folder.__path__):
        if not module.name.startswith("_"):
            yield importlib.import_module(f"{package}.{module.name}")


def _entry_points(group: str) -> Iterator[object]:
    for entry in entry_points(group=group):
        try:
            yield entry.load()
        except Exception as error:
            raise InputError(f"entry point {entry.name!r} of {group}: {type(error).__name__}: {error}") from error


_loading: list[Path] = []


@cache
def _plugin(path: Path) -> ModuleType:
    name = f"lab_plugin_{path.stem.replace('-', '_')}_{abs(hash(path)):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InputError(f"{path}: not a Python file; name one for --plugin")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    _loading.append(path)
    try:
        read_text(path, MAX_SMALL_BYTES)
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"{path}:{_line_in(path, error)}: {type(error).__name__}: {error}") from error
    finally:
        _loading.remove(path)
    return module


def _line_in(path: Path, error: BaseException) -> int:
    """The line of a file at which running it failed, 1 if that is not known."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == str(path)]
    return lines[-1] if lines else 1
