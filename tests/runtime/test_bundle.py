"""The archive for machines without any network, tried where there is none."""

from __future__ import annotations

import gzip
import os
import platform
import subprocess
import sys
from pathlib import Path

import docker
import pytest

from lab import CHECKOUT
from lab.runtime.compose import image

NAME = "inference-routing-lab"

# Its own network namespace begins with a loopback that is down, and with nothing else.
IN_A_ROOM_WITHOUT_NETWORK = """
import fcntl, os, socket, struct, subprocess, sys
UP, GET, SET = 0x1, 0x8913, 0x8914
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    flags = struct.unpack("16sh", fcntl.ioctl(probe, GET, struct.pack("16sh", b"lo", 0)))[1]
    fcntl.ioctl(probe, SET, struct.pack("16sh", b"lo", flags | UP))
assert [name for _, name in socket.if_nameindex()] == ["lo"], socket.if_nameindex()
for target in ("lab-up", "lab-down"):
    done = subprocess.run(["make", target, *sys.argv[1:]]).returncode
    if done:
        sys.exit(done)
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What somebody has on a machine that the archive was carried to."""
    made = tmp_path_factory.mktemp("made")
    environment = {**os.environ, "DOCKER_HOST": f"unix://{made}/nobody.sock"}  # the image has its own test
    subprocess.run(
        [str(CHECKOUT / "compose" / "bundle.sh"), sys.executable, str(made)],
        cwd=CHECKOUT,
        env=environment,
        check=True,
        timeout=300,
    )
    [archive] = made.glob(f"{NAME}-*.tar")
    assert list(made.iterdir()) == [archive], "scratch is left"
    there = tmp_path_factory.mktemp("there")
    subprocess.run(["tar", "--extract", "--file", str(archive), "--directory", str(there)], check=True)
    archive.unlink()
    return there / NAME


@pytest.mark.timeout(600)
def test_it_stands_the_lab_up_without_any_network(unpacked: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *("unshare", "--net", *(() if os.getuid() == 0 else ("--map-root-user",))),
            *(sys.executable, "-c", IN_A_ROOM_WITHOUT_NETWORK),
            *(f"PYTHON={sys.executable}", "RUNTIME=process", "NAME=air", "ARGS="),
        ],
        cwd=unpacked,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path), "LAB_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )

    assert done.returncode == 0, done.stderr + done.stdout
    assert "✓ gateway" in done.stdout
    assert "✓ mesh" in done.stdout
    assert not (tmp_path / ".lab" / "air").exists()


@pytest.mark.timeout(600)
def test_a_python_that_the_packages_are_not_for_is_refused(unpacked: Path) -> None:
    (unpacked / "carried" / "wheels.txt").write_text(f"python3.1-linux-{platform.machine()}\n")

    done = subprocess.run(
        ["make", "lab-up", f"PYTHON={sys.executable}", "VENV=elsewhere"],
        cwd=unpacked,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode != 0
    assert "make PYTHON=python3.1 …" in done.stderr.splitlines()[0]


def test_the_image_that_came_along_is_loaded_if_the_engine_lacks_it(
    engine: docker.DockerClient, tmp_path: Path
) -> None:
    reference = f"{NAME}-test-{tmp_path.name}:carried".lower()
    empty = tmp_path / "empty.tar"
    subprocess.run(["tar", "--create", "--file", str(empty), "--files-from", "/dev/null"], check=True)
    try:
        engine.api.import_image_from_file(str(empty), repository=reference.split(":")[0], tag="carried")
        saved = subprocess.run(["docker", "save", reference], capture_output=True, check=True).stdout
        (tmp_path / image.ARCHIVE).write_bytes(gzip.compress(saved))
        (tmp_path / image.ARCHIVE_NAMES).write_text(f"{reference}\n")
        engine.images.remove(reference)
        said: list[str] = []

        image.load(engine, said.append, tmp_path)
        assert reference in engine.images.get(reference).tags

        image.load(engine, said.append, tmp_path)
        assert len(said) == 1, "it was loaded again"
    finally:
        engine.images.remove(reference, force=True)
