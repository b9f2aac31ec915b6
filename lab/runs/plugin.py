"""A checker of somebody's own, beside those of the lab: a Python file with ``NAME`` and ``check``."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

from lab.checkers import CHECKERS
from lab.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from lab.checkers import Checker


def load_checker(path: Path) -> tuple[str, Checker]:
    """A checker's name and function, from a file like the modules of ``lab.checkers``.

    Raises:
        InputError: there is no such file, it does not run, or it lacks what makes a checker.
    """
    if not path.is_file():
        raise InputError(f"--checker: {path}: no such file")
    spec = importlib.util.spec_from_file_location(f"own_checker_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"--checker: {path}: is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"--checker: {path}: {type(error).__name__}: {error}") from error
    name, function = getattr(module, "NAME", None), getattr(module, "check", None)
    if not isinstance(name, str) or not callable(function):
        raise InputError(f'--checker: {path}: write NAME = "…" and check(evidence) into it; see lab/checkers/tear.py')
    if name in CHECKERS:
        raise InputError(f"--checker: {path}: {name!r} is the name of one of the lab's own; take another")
    return name, function
