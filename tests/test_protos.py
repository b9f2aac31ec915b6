import os
import shutil
from pathlib import Path

import pytest

from lab.errors import InputError
from models.proto.generate import FOLDER, ROOT, generate, main, stale


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A tree with the lab's protos and what is generated from them, to spoil."""
    shutil.copytree(ROOT / FOLDER, tmp_path / FOLDER, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_generated_code_is_up_to_date() -> None:
    assert stale(generate()) == [], "run 'make protos'"


def test_check_names_missing_stale_and_left_over_files_and_changes_nothing(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing, edited, left_over = (
        FOLDER / name
        for name in ("fraud/v1/fraud_pb2_grpc.py", "ranking/v1/ranking_pb2.py", "serving/v1/serving_pb2_grpc.py")
    )
    (copy / missing).unlink()
    (copy / edited).write_text("# by hand\n")
    (copy / left_over).touch()

    assert main(["--check"], root=copy) == 1

    assert [f"stale: {path}; run 'make protos'" for path in (missing, edited, left_over)] == (
        capsys.readouterr().out.splitlines()
    )
    assert not (copy / missing).exists()
    assert (copy / edited).read_text() == "# by hand\n"
    assert (copy / left_over).exists()

    # and without --check all is put right
    assert main([], root=copy) == 0
    assert main(["--check"], root=copy) == 0
    assert (ROOT / missing).read_bytes() == (copy / missing).read_bytes()
    assert not (copy / left_over).exists()


def test_a_proto_that_does_not_compile_is_reported_by_file_and_line(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = copy / FOLDER / "fraud/v1/fraud.proto"
    broken.write_text(broken.read_text() + "message {\n")

    with pytest.raises(InputError, match=r"fraud\.proto:\d+:\d+"):
        generate(copy)
    assert main(["--check"], root=copy) == 1
    assert "fraud.proto" in capsys.readouterr().err


def test_the_compiler_finds_its_plugins_on_any_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.defpath)

    assert generate()
