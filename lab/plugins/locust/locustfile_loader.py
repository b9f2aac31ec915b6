"""Loads locustfiles. ``python -m lab.plugins.locust.locustfile_loader FILE`` prints what one defines, or the error.

A locustfile is a program, so it runs in its own process.
"""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

from locust.util.load_locustfile import load_locustfile

from lab.errors import InputError, LabError
from lab.plugins.locust.user import LabUser
from lab.reading import MAX_SMALL_BYTES, read_text


@dataclass(frozen=True, slots=True)
class Locustfile:
    """The content of a locustfile.

    Attributes:
        users: its user classes, each with tasks.
    """

    users: tuple[type[LabUser], ...]

    @property
    def closed_loop(self) -> bool:
        """Whether any of them sets its own wait time."""
        return any(not user.paced_by_plan() for user in self.users)


def read_locustfile(path: Path) -> Locustfile:
    """Runs a locustfile, and returns its users.

    Args:
        path: the file.

    Raises:
        InputError: it cannot be read or run, or has no users; names file and line.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; name a locustfile")
    try:
        read_text(path, MAX_SMALL_BYTES)
        found = load_locustfile(str(path.resolve()))[0]
    except SyntaxError as error:
        raise InputError(f"{error.filename or path}:{error.lineno or 1}: no Python: {error.msg}") from error
    except LabError as error:
        raise InputError(f"{path}:{_line_of(error, path)}: {error}") from error
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{path}:{_line_of(error, path)}: it cannot be run: {reason}") from error
    users = tuple(user for user in found.values() if issubclass(user, LabUser))
    if not users:
        others = f" (found {', '.join(found)})" if found else ""
        raise InputError(
            f"{path}:1: has no class of users{others}; derive one from lab.plugins.locust.LabUser and give it a @task"
        )
    for user in users:
        if not user.tasks:
            line = _line_of_class(user, path)
            raise InputError(f"{path}:{line}: {user.__name__} has nothing to do; mark one of its methods with @task")
    return Locustfile(users)


def _line_of(error: BaseException, path: Path) -> int:
    """The line of the file that raised the error; 1 if none did."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path.resolve() and frame.lineno]
    return lines[-1] if lines else 1


def _line_of_class(user: type[LabUser], path: Path) -> int:
    lines = path.read_text(errors="replace").splitlines()
    heads = (number for number, line in enumerate(lines, 1) if line.split("(")[0].split() == ["class", user.__name__])
    return next(heads, 1)


def main(arguments: list[str]) -> None:
    """Prints one JSON object, or exits with status 1 and one line."""
    path = Path(arguments[0])
    try:
        found = read_locustfile(path)
    except InputError as error:
        sys.exit(str(error))
    print(json.dumps({"users": [user.__name__ for user in found.users], "closed_loop": found.closed_loop}))  # noqa: T201 (its interface)


if __name__ == "__main__":
    main(sys.argv[1:])
