"""What the doctor says of machines that lack something, each made so for real."""

import ctypes
import json
import os
import sys
from pathlib import Path

import pytest
import typer

from lab.cli.doctor import doctor as doctor_command
from lab.ops import doctor
from lab.runtime.doctor_finding import Finding
from lab.runtime.process import checks


def _finding(diagnosis: doctor.Diagnosis, name: str) -> Finding:
    return next(each for each in diagnosis.findings if each.name == name)


def test_this_machine_can_run_a_lab_of_processes(tmp_path: Path) -> None:
    diagnosis = doctor.examine(tmp_path)

    assert diagnosis.ready["process"]
    assert _finding(diagnosis, "Envoy").found == "1.40.0"
    assert _finding(diagnosis, "packages").found == "as locked"
    assert all(bool(each.remedy) is (each.state != "ok") for each in diagnosis.findings)


def test_without_an_engine_compose_is_not_ready_and_the_remedy_names_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")

    diagnosis = doctor.examine(tmp_path)

    assert diagnosis.ready == {"process": True, "compose": False}
    assert _finding(diagnosis, "Docker engine").state == "lacks"
    assert "make engine" in _finding(diagnosis, "Docker engine").remedy


def test_an_envoy_that_does_not_run_is_seen_by_running_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = tmp_path / "envoy"
    stub.write_text("#!/bin/sh\nexit 127\n")
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    diagnosis = doctor.examine(tmp_path)

    assert not diagnosis.ready["process"]
    assert diagnosis.lacks("process") == ["Envoy"]


def test_file_watches_that_run_out_are_seen_before_an_envoy_aborts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instances = [ctypes.CDLL(None).inotify_init() for _ in range(3)]
    try:
        taken = int(_finding(doctor.examine(tmp_path), "file watches").found.split()[0])
        most = tmp_path / "max_user_instances"
        most.write_text(f"{taken}\n")
        monkeypatch.setattr(checks, "_MAX_WATCHES", most)

        found = _finding(doctor.examine(tmp_path), "file watches")
    finally:
        for each in instances:
            os.close(each)

    assert taken >= len(instances)
    assert found.state == "hint"
    assert "max_user_instances" in found.remedy


def test_packages_that_differ_from_the_lock_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = "grpcio==0.1 \\\n    --hash=sha256:00\npyyaml==0.1 ; python_version < '3' \\\nnever-heard-of==1.0 \\"
    (tmp_path / "requirements.lock").write_text(lock)
    monkeypatch.setattr(doctor, "CHECKOUT", tmp_path)

    found = _finding(doctor.examine(tmp_path), "packages")

    assert (found.state, found.found) == ("hint", "other versions than locked: grpcio")


def test_it_fails_only_if_no_runtime_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    doctor_command(as_json=True)
    assert json.loads(capsys.readouterr().out)["ready"] == {"process": True, "compose": False}

    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(typer.Exit) as ended:
        doctor_command(as_json=False)

    assert ended.value.exit_code == 1
    assert "process: not ready: Envoy" in capsys.readouterr().out
