"""Generates the Python beside each ``.proto``: ``python -m models.proto.generate [--check]``.

It writes missing and stale files and removes those without a ``.proto``. With ``--check`` it changes nothing, lists
those files, and exits 1 if there are any.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2

from lab import PYTHON
from lab.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("models/proto")
_GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def _generated_in(root: Path) -> dict[str, bytes]:
    paths = (path for pattern in _GENERATED for path in (root / FOLDER).rglob(pattern))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def _without_services(descriptors: bytes) -> set[str]:
    """Stems of the files, e.g. ``models/proto/serving/v1/serving``, that define no service."""
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors).file
    return {file.name.removesuffix(".proto") for file in files if not file.service}


def generate(root: Path = ROOT) -> dict[str, bytes]:
    """The generated files for the ``.proto`` files under ``root``: path relative to ``root`` → content.

    Raises:
        InputError: a ``.proto`` does not compile; the message is the compiler's.
    """
    protos = sorted(path.relative_to(root).as_posix() for path in (root / FOLDER).rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        command = [*PYTHON, "-m", "grpc_tools.protoc", "-I", ".", f"--descriptor_set_out={out / 'descriptors'}"]
        command += [f"--{plugin}_out={out}" for plugin in ("python", "grpc_python", "mypy", "mypy_grpc")]
        # The compiler finds its plugins on the PATH; this interpreter's come first.
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        done = subprocess.run(
            [*command, *protos], cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise InputError(done.stderr.strip())
        generated = _generated_in(out)
        stems = _without_services((out / "descriptors").read_bytes())
    return {name: content for name, content in generated.items() if name.partition("_pb2_grpc.")[0] not in stems}


def stale(fresh: dict[str, bytes], root: Path = ROOT) -> list[str]:
    """Paths of the generated files under ``root`` that are missing, differ from ``fresh``, or should not exist."""
    present = _generated_in(root)
    return sorted(name for name in fresh.keys() | present.keys() if fresh.get(name) != present.get(name))


def _bring_up_to_date(fresh: dict[str, bytes], names: list[str], root: Path) -> None:
    for name in names:
        if name in fresh:
            (root / name).write_bytes(fresh[name])
        else:
            (root / name).unlink()


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Exit code: 0, or 1 if ``--check`` found something or a ``.proto`` does not compile."""
    parser = argparse.ArgumentParser(prog="python -m models.proto.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; name stale files and exit 1")
    check = parser.parse_args(arguments).check
    try:
        fresh = generate(root)
    except InputError as error:
        print(error, file=sys.stderr)  # noqa: T201 (command output)
        return 1
    names = stale(fresh, root)
    for name in names:
        print(f"stale: {name}; run 'make protos'" if check else f"updated: {name}")  # noqa: T201 (command output)
    if check:
        return 1 if names else 0
    _bring_up_to_date(fresh, names, root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
