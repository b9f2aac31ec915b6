"""``.ci/setup``, which installs what is not a Python package."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lab import CHECKOUT

SCRIPT = CHECKOUT / ".ci" / "setup"
[_LIST] = re.findall(r'^EVERYTHING="(.*)"$', SCRIPT.read_text(), re.MULTILINE)
EVERYTHING = _LIST.split()
# Found where Debian has it, outside the PATH too.
FOUND = {
    "postgres": [*Path("/usr/lib/postgresql").glob("*/bin/initdb")],
    "proxies": [each for each in (Path("/usr/sbin/haproxy"),) if each.exists()],
}
LACKING = [name for name in EVERYTHING if not FOUND.get(name)]
# What a machine lacks by name, where that is not the name of the package.
PACKAGES = {
    "python": "python3 python3-venv make git",
    "engine": "Docker (Engine 25 or newer, with the compose plugin) and start it",
    "h2load": "nghttp2-client",
    "postgres": "postgresql",
    "proxies": "haproxy",
    "podman": "podman catatonit runc",
    "grpc-js": "nodejs npm",
    "render-schemas": "nodejs npm",
}


def setup(path: str | Path, *names: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(SCRIPT), *names],
        env={"PATH": str(path), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.usefixtures("engine")
def test_where_an_engine_answers_it_does_nothing_and_says_so() -> None:
    result = setup("/usr/local/bin:/usr/bin:/bin", "engine")

    assert result.returncode == 0, result.stderr
    [line] = result.stdout.splitlines()
    assert "engine ready" in line


@pytest.mark.parametrize("name", LACKING)
def test_where_it_can_do_nothing_one_line_says_what_to_install(name: str, tmp_path: Path) -> None:
    for tool in ("id", "tail"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")

    result = setup(tmp_path, name, CI="")

    assert (result.returncode, result.stdout) == (1, "")
    what = PACKAGES.get(name, name)
    assert result.stderr == f"make {name}: install {what}, or run this as root on Debian\n"


def test_an_unknown_name_is_one_line() -> None:
    result = setup("/usr/bin:/bin", "mysql")

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"make mysql: no such name; use {_LIST}\n"


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    for tool in ("h2load", "initdb", "kustomize", "prometheus", "podman", "catatonit", "runc", "chromium"):
        (tmp_path / tool).symlink_to("/bin/true")

    result = setup(tmp_path, "h2load", "postgres", "kustomize", "prometheus", "podman", "chromium")

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_every_name_but_python_is_a_target() -> None:
    targets = re.search(r"^SETUP := (.*)$", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)

    assert targets is not None
    assert sorted(["python", *targets[1].split()]) == sorted(EVERYTHING)
