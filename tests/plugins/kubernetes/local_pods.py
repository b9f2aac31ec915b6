"""A kubelet whose pods are folders of this machine: commands executed in them are processes here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil

from tests.kubernetes_server import Manifest, NoKubelet

_MARK = "LAB_FAKE_POD"


class LocalPods(NoKubelet):
    """Each pod counts as running at once; what is executed in it has its own folder for ``/runs``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def runs_of(self, pod: Manifest) -> Path:
        """The folder in place of ``/runs``."""
        return self._folder / str(pod["metadata"]["name"])

    def processes_of(self, pod: str) -> list[psutil.Process]:
        """What is being executed in a pod."""
        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                if process.environ().get(_MARK) == pod:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def remove(self, pod: Manifest) -> None:
        for process in self.processes_of(pod["metadata"]["name"]):
            process.kill()

    def argv(self, pod: Manifest, container: str, command: list[str]) -> list[str]:
        runs = self.runs_of(pod)
        runs.mkdir(parents=True, exist_ok=True)
        [found] = [each for each in pod["spec"]["containers"] if each["name"] == container]
        known = {each["name"]: each["value"] for each in found.get("env", []) if "value" in each}
        known |= {_MARK: pod["metadata"]["name"], "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        words = [word.replace("/runs", str(runs)) for word in command]
        return ["env", *(f"{name}={value}" for name, value in known.items()), *words]
