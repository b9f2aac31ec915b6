"""Locustfiles: what is found in them, and the error for each kind of invalid one."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.errors import InputError
from lab.load.plan import EnginePlan
from lab.plugins.locust.plan import EXAMPLE, plan_of
from tests.plugins.locust.builders import by_locust

PYTHON = sys.executable
ROOT = Path(__file__).parents[3]

USER = """from locust import between, task
from lab.plugins.locust import LabUser
class Person(LabUser):
    {wait}
    @task
    def ask_something(self):
        self.ask()
"""


def read(tmp_path: Path, content: str) -> EnginePlan:
    file = tmp_path / "mine.py"
    file.write_text(content)
    return plan_of(locustfile=file)


def test_the_example_goes_by_the_plan() -> None:
    assert plan_of() == by_locust(EXAMPLE, decides=("device",))


@pytest.mark.parametrize(
    ("wait", "closed"), [("pass", False), ("wait_time = between(1, 2)", True), ("wait_time = lambda self: 1", True)]
)
def test_users_with_a_wait_of_their_own_make_a_closed_loop(tmp_path: Path, wait: str, closed: bool) -> None:  # noqa: FBT001
    assert read(tmp_path, USER.format(wait=wait)).closed_loop == closed


@pytest.mark.parametrize(
    ("content", "line", "why"),
    [
        ("x = 1\ny = (\n", 2, "no Python"),
        ("x = 1\nimport no_such_module_here\n", 2, "No module named 'no_such_module_here'"),
        ("x = 1\n\nraise SystemExit(3)\n", 3, "SystemExit"),
        ("x = 1\n", 1, "has no class of users"),
        ("from locust import User, task\nclass Other(User):\n  @task\n  def t(self): pass\n", 1, "found Other"),
        ("from lab.plugins.locust import LabUser\n\nclass Idle(LabUser):\n    pass\n", 3, "Idle has nothing to do"),
    ],
)
def test_a_bad_locustfile_is_one_line_with_file_and_line(tmp_path: Path, content: str, line: int, why: str) -> None:
    with pytest.raises(InputError, match=why) as refused:
        read(tmp_path, content)

    assert str(refused.value).startswith(f"{tmp_path / 'mine.py'}:{line}: ")
    assert len(str(refused.value).splitlines()) == 1


def test_a_locustfile_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        plan_of(locustfile=tmp_path / "none.py")


def test_a_locustfile_that_does_not_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.plugins.locust.plan._TIMEOUT_S", 0.1)

    with pytest.raises(InputError, match="was not loaded within"):
        read(tmp_path, "while True: pass\n")


@pytest.mark.parametrize("wrong", [{"workers": -1}, {"workers": 65}, {"ui_port": 0}])
def test_numbers_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        by_locust(**wrong)


def printed_by(code: str) -> str:
    return subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_nothing_is_patched() -> None:
    code = (
        "from lab.plugins.locust import LabUser; import socket, threading; print(socket.socket, threading.Thread.start)"
    )

    assert "gevent" not in printed_by(code)


@pytest.mark.parametrize(
    "code", ["import lab.load.driver, lab.runs", "from lab.load.engines import ENGINES; ENGINES['locust']"]
)
def test_who_only_looks_engines_up_imports_no_locust(code: str) -> None:
    assert printed_by(f"import sys; {code}; print(*{{'locust', 'gevent', 'zmq', 'flask'}} & set(sys.modules))") == ""


def test_the_locustfile_of_the_docs_is_one(tmp_path: Path) -> None:
    blocks = (ROOT / "docs" / "load.md").read_text().split("```python\n")[1:]
    (mine,) = [block.split("```")[0] for block in blocks if "LabUser" in block]

    assert not read(tmp_path, mine).closed_loop
