"""Which cluster a lab is in, as a file in the lab's folder: every command of the lab finds it there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lab.errors import InputError, LabError
from lab.reading import read_json
from lab.runtime.state import STATE_FILE

IMAGE_VARIABLE = "LAB_IMAGE"
"""Environment variable: the image of the units, unless an option names one."""
OPTIONS_FILE = "kubernetes.json"
"""In the folder of a lab in a cluster."""


@dataclass(frozen=True, slots=True)
class Options:
    """What ``lab up`` says about the cluster.

    Attributes:
        context: context of the kubeconfig; its current one if empty.
        namespace: holds the lab; made by ``lab up``, and removed by ``lab down``, unless it was there before.
        image: image of the units, which the cluster's nodes have or can pull.
        storage_class: of the control plane's volume; without one, revisions are lost with its pod.
    """

    context: str = ""
    namespace: str = ""
    image: str = ""
    storage_class: str = ""

    @classmethod
    def of(cls, folder: Path) -> Options:
        """The options of the lab in a folder; all empty if there are none.

        Raises:
            LabError: the file is damaged.
        """
        file = folder / OPTIONS_FILE
        if not file.exists():
            return cls()
        try:
            return cls(**read_json(file))
        except (OSError, ValueError, TypeError) as error:
            raise LabError(f"{file}: damaged ({error}); remove the namespace, then the file") from error

    def save(self, folder: Path) -> None:
        """Writes the file."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / OPTIONS_FILE).write_text(json.dumps(asdict(self), indent=1))


def _from_environment() -> dict[str, str]:
    image = os.environ.get(IMAGE_VARIABLE, "")
    return {"image": image} if image else {}


def configure(folder: Path, given: Mapping[str, str]) -> None:
    """Keeps the options given to ``lab up``, for a lab that is not up yet.

    Raises:
        InputError: no image is given, or the lab is up with other options.
    """
    before = Options.of(folder) if (folder / STATE_FILE).exists() else Options()
    wanted = replace(before, **{**({} if before.image else _from_environment()), **given})
    if before.image and wanted != before:
        raise InputError(
            f"lab {folder.name} is up with another --context, --namespace, --image or --storage-class: `lab down` first"
        )
    if not wanted.image:
        raise InputError(
            f"--image: name an image of the units that the cluster's nodes have or can pull, or set {IMAGE_VARIABLE}; "
            "see docs/containers.md#kubernetes"
        )
    replace(wanted, namespace=wanted.namespace or f"lab-{folder.name}").save(folder)
