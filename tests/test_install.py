"""What is installed: all that a lab imports at first, the rest when it is first needed, everything from the lock."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lab import CHECKOUT
from lab.errors import InputError
from lab.plugins.locust import plan as locust_plan

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

OWNERS = {module: {canonicalize_name(each) for each in owners} for module, owners in packages_distributions().items()}

# Parts of the lab that work only with an extra.
NEEDS = {
    "lab/plugins/locust": "locust",
    "lab/plugins/render/_rest_locustfile.py": "locust",
    "lab/plugins/pickers/_exact_index.py": "kv-events",
    "lab/plugins/pickers/readers/_kv_events.py": "kv-events",
    "models/tokens/kv_events.py": "kv-events",
}
NEEDS |= {"services/controlplane/registry/postgres.py": "postgres"}
NEEDS |= {
    "lab/plugins/render/grafana.py": "grafana",
    "lab/testing.py": "testing",
    "lab/plugins/workshop/": "notebooks",
    "lab/plugins/kubernetes/": "kubernetes",
}
# What comes along with Jinja, Pydantic, Docker's client, Locust, ipykernel and lightkube.
COME_ALONG = {"": {"markupsafe", "pydantic-core", "requests"}, "locust": {"gevent", "flask", "configargparse"}}
COME_ALONG["notebooks"] = {"ipython"}
COME_ALONG["kubernetes"] = {"httpx2", "anyio"}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(each).name) for each in requirements}


OURS, AT_FIRST = names([PROJECT["name"]]), names(PROJECT["dependencies"]) | COME_ALONG[""]


def imported(path: Path) -> Iterator[str]:
    """The distributions that a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        for module in modules:
            found = OWNERS.get(module.partition(".")[0], set()) - OURS
            if found:
                yield " or ".join(sorted(found))


def test_a_lab_imports_only_what_is_installed_at_first() -> None:
    missing = {}
    for folder in ("lab", "services", "models"):
        for path in (CHECKOUT / folder).rglob("*.py"):
            where = path.relative_to(CHECKOUT)
            has = AT_FIRST
            for extra in [each for start, each in NEEDS.items() if str(where).startswith(start)]:
                has = has | names(EXTRAS[extra]) | COME_ALONG.get(extra, set())
            lacking = {each for each in imported(path) if not has & set(each.split(" or "))}
            if lacking:
                missing[str(where)] = lacking
    assert missing == {}


def test_the_lock_has_every_package_of_every_extra_and_its_hash() -> None:
    locked = re.split(r"\n(?=[a-z])", (CHECKOUT / "requirements.lock").read_text())
    hashed = {canonicalize_name(each.partition("==")[0]) for each in locked if "--hash=sha256:" in each}

    wanted = names([*PROJECT["dependencies"], *(each for extra in EXTRAS.values() for each in extra)])
    assert wanted - hashed - names([PROJECT["name"]]) == set()


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment whose ``python -m pip`` and ``uv`` write down what they are asked; ``uv`` comes by pip."""
    bin_folder = tmp_path / "venv" / "bin"
    bin_folder.mkdir(parents=True)
    log = tmp_path / "log"
    uv = f'echo "uv $* from $UV_DEFAULT_INDEX" >> {log}; test ! -e {tmp_path}/uv-fails'
    python = f"""
        case "$*" in
          -c*) exec {sys.executable} "$@";;
          *"pip config list"*) echo "global.cert='x'"; echo "global.index-url='https://packages.example/simple'"; exit;;
          *uv.txt) test ! -e {tmp_path}/no-uv || exit 1; printf '#!/bin/sh\\n%s\\n' '{uv}' > {bin_folder}/uv
            chmod +x {bin_folder}/uv;;
        esac
        echo "$*" | sed 's/^-m //' >> {log}
    """
    (bin_folder / "python").write_text(f"#!/bin/sh\n{python}\n")
    (bin_folder / "python").chmod(0o755)
    return tmp_path / "venv"


def install(venv: Path, *extra: str, **environment: str) -> list[str]:
    """Installs, and returns the commands that this took."""
    log = venv.parent / "log"
    log.write_text("")
    command = [f"{CHECKOUT}/.ci/install.sh", f"{venv}/bin/python", *extra]
    subprocess.run(command, cwd=CHECKOUT, env={"PATH": "/usr/bin:/bin", **environment}, check=True)
    return log.read_text().splitlines()


UV = "uv pip install --quiet --compile-bytecode --python {venv}/bin/python "
LOCKED = "--require-hashes --constraint requirements.lock --requirement pyproject.toml "
EDITABLE = "--no-deps --no-build-isolation --editable ."
PIP = "pip --quiet --disable-pip-version-check install "
FROM = " from https://packages.example/simple"


def test_an_extra_that_there_is_not_is_one_line(venv: Path) -> None:
    command = [f"{CHECKOUT}/.ci/install.sh", f"{venv}/bin/python", "WRONG"]
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [f"no extra 'WRONG'; there are {', '.join([*EXTRAS, 'dev', 'docs'])}"]
    assert not (venv.parent / "log").exists()


def test_uv_installs_what_is_needed_and_an_extra_when_it_is_asked_for(venv: Path) -> None:
    uv = UV.format(venv=venv)

    assert install(venv) == [
        f"{PIP}--require-hashes --requirement {venv}/bin/../uv.txt",
        f"{uv}{LOCKED}--group editable{FROM}",
        f"{uv}{EDITABLE}{FROM}",
    ]
    assert re.match(r"uv==\S+ \\\n    --hash=sha256:", (venv / "uv.txt").read_text())
    assert (venv / "uv.txt").read_text().count("==") == 1
    assert install(venv, "docs") == [f"{uv}{LOCKED}--group docs{FROM}"]
    assert install(venv, "dev") == [f"{uv}{LOCKED}--all-extras --group dev{FROM}"]
    assert install(venv, "notebooks") == [], "dev has everything"
    assert install(venv) != [], "the lock has changed"
    assert install(venv, "notebooks") != []


@pytest.mark.parametrize("obstacle", ["no-uv", "uv-fails", "PIP_NO_INDEX"])
def test_without_uv_pip_installs_all_that_is_locked_at_once(obstacle: str, venv: Path) -> None:
    (venv.parent / obstacle).touch()
    environment = {"PIP_NO_INDEX": "1"} if obstacle == "PIP_NO_INDEX" else {}  # as in a bundle

    commands = install(venv, **environment)

    assert commands[-2:] == [f"{PIP}--require-hashes --requirement requirements.lock", f"{PIP}{EDITABLE}"]
    assert install(venv, "docs", **environment) == []


def test_locust_is_installed_into_this_checkout_when_a_run_first_needs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, '{"closed_loop": false}', "")

    monkeypatch.setattr(locust_plan, "find_spec", lambda _: None)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "prefix", str(CHECKOUT / ".venv"))
    locust_plan.plan_of()
    assert asked[0] == ["make", "--no-print-directory", ".venv/with-locust"]

    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(InputError, match=r"pip install 'inference-routing-lab\[locust\]'"):
        locust_plan.plan_of()
