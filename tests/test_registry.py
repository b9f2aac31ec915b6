import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from lab.errors import InputError
from lab.plugins.endpoint_picker import topology as picker
from lab.plugins.foreign_pickers import topology as foreign
from lab.plugins.mesh_picker import topology as mesh_picker
from lab.plugins.proxies import topologies as proxies
from lab.plugins.vip import topology as vip
from lab.registry import PLUGINS, Registry, add_plugins
from lab.topologies import TOPOLOGIES, Topology

ROOT = Path(__file__).parents[1]

OUTSIDE = """
from dataclasses import replace
from lab.topologies.mesh import TOPOLOGY as MESH

TOPOLOGY = replace(MESH, name={name!r}, reason="a test", colour="#123456")
"""


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGINS, "")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    file = tmp_path / "outside.py"
    file.write_text(OUTSIDE.format(name="elsewhere"))
    return file


def files() -> set[str]:
    """Names of the topologies that have a file in the lab's own package."""
    return {path.stem.replace("_", "-") for path in (ROOT / "lab" / "topologies").glob("[!_]*.py")}


def test_the_topologies_of_the_lab_are_its_files_and_those_of_its_plug_ins() -> None:
    modules = (foreign, mesh_picker, picker, proxies, vip)
    of_plug_ins = [each for module in modules for each in vars(module).values() if isinstance(each, Topology)]
    assert set(TOPOLOGIES) == files() | {each.name for each in of_plug_ins}
    assert list(TOPOLOGIES)[: len(files())] == sorted(files())


def test_a_plugin_adds_its_topology(outside: Path) -> None:
    add_plugins([outside])

    assert TOPOLOGIES["elsewhere"].colour == "#123456"
    assert TOPOLOGIES["mesh"].name == "mesh"


def test_processes_that_a_command_starts_find_its_plugins(outside: Path) -> None:
    add_plugins([outside])
    code = "from lab.topologies import TOPOLOGIES; print(TOPOLOGIES['elsewhere'].reason)"

    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)

    assert result.stdout == "a test\n"


@pytest.fixture
def many_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("many_switches")
def test_threads_that_look_up_at_once_find_all() -> None:
    for _ in range(50):
        kinds = Registry(Topology, package="lab.topologies", group="lab.no_such_group", noun="topology")
        together = Barrier(4)

        def look_up(kinds: Registry[Topology] = kinds, together: Barrier = together) -> list[str]:
            together.wait()
            return list(kinds)

        with ThreadPoolExecutor(4) as pool:
            found = [each.result() for each in [pool.submit(look_up) for _ in range(4)]]
        assert found == [sorted(files())] * 4


def test_an_unknown_name_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(
        InputError,
        match=r"^topology 'mash' is not known; there are direct, gateway, .*, proxyless, .*; did you mean 'mesh'\?$",
    ):
        TOPOLOGIES["mash"]

    assert "mash" not in TOPOLOGIES


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("x = 1\ny = 1 / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("x = 1\n\nif\n", 3, "SyntaxError: invalid syntax"),
        ("import nothing_of_that_name\n", 1, "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
    ],
)
def test_a_broken_plugin_is_named_with_its_line(tmp_path: Path, text: str, line: int, problem: str) -> None:
    file = tmp_path / "broken.py"
    file.write_text(text)

    with pytest.raises(InputError) as caught:
        add_plugins([file])

    assert str(caught.value).startswith(f"{file}:{line}: {problem}")


def test_a_plugin_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a Python file"):
        add_plugins([tmp_path / "missing.py"])


def test_a_plugin_cannot_take_the_name_of_one_of_the_labs(tmp_path: Path) -> None:
    file = tmp_path / "again.py"
    file.write_text(OUTSIDE.format(name="mesh"))
    add_plugins([file])

    with pytest.raises(InputError, match="'mesh' from outside has the name of one of the lab's"):
        list(TOPOLOGIES)


def test_a_plugin_may_look_kinds_up_while_it_loads(tmp_path: Path) -> None:
    file = tmp_path / "looks.py"
    file.write_text(
        "from dataclasses import replace\nfrom lab.roles import ROLES\nfrom lab.topologies import TOPOLOGIES\n"
        "ROLES['gateway']\n"
        "TOPOLOGY = replace(TOPOLOGIES['mesh'], name='elsewhere', reason='a test')\n"
    )

    add_plugins([file])

    assert TOPOLOGIES["elsewhere"].reason == "a test"
