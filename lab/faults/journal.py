"""The lab's own part of the audit log: what was done to its units by whoever holds its folder, and by whom.

It lies in the lab's folder, ``audit.jsonl``: a line before each act, and a line when it has ended. The control plane
keeps what it was asked for itself; of this it may know nothing, as it may be what is killed.
"""

from __future__ import annotations

import json
import os
import pwd
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from filelock import lock_descriptor

from lab.admin import Act
from lab.errors import LabError
from lab.identity import OPERATOR
from lab.runtime.identities import Identities

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

JOURNAL = "audit.jsonl"
"""In the lab's folder."""

KEPT_BY = "lab"
_OK, _FAILED, _BROKEN_OFF = "OK", "FAILED", "CANCELLED"
_DAMAGED = "DAMAGED"
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class AuditLog:
    """What is known of who did what.

    Attributes:
        acts: those that the control plane keeps and those that the lab does, oldest first.
        missing: why the control plane's are not among them; empty if they are.
    """

    acts: tuple[Act, ...]
    missing: str


@dataclass(frozen=True, slots=True)
class Journal:
    """That of one lab.

    Attributes:
        folder: the lab's own.
    """

    folder: Path

    @contextmanager
    def doing(self, what: str, unit: str, detail: str = "") -> Iterator[None]:
        """Writes down what is done within, before it is done, and then how it has ended.

        Args:
            what: in the words of the command.
            unit: to which it is done, or several.
            detail: what with.

        Raises:
            LabError: it cannot be written down, and so is not done.
        """
        began = {"at_ns": time.time_ns(), "who": self._who(), "unit": unit, "what": what, "detail": detail}
        number = self._write(began)
        status, reason = _OK, ""
        try:
            yield
        except BaseException as error:
            status, reason = (_FAILED, str(error)) if isinstance(error, Exception) else (_BROKEN_OFF, "")
            raise
        finally:
            with suppress(LabError):  # done it is, whether that can be written down or not
                self._write({"status": status, "reason": reason}, number)

    def acts(self) -> list[Act]:
        """All that was done, oldest first; one without a status has not ended, or was cut off.

        Raises:
            LabError: the file cannot be read.
        """
        try:
            lines = (self.folder / JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LabError(f"audit log: {error}") from error
        acts: dict[int, Act] = {}
        for place, line in enumerate(lines, 1):
            try:
                _take(json.loads(line), acts)
            except (ValueError, TypeError, KeyError):
                # Cut off in the midst, or tampered with: either is to be seen.
                acts[-place] = Act(0, 0, "", "", "", line[:80], _DAMAGED, f"line {place} of {JOURNAL}", KEPT_BY)
        return list(acts.values())

    def forget(self) -> None:
        """Begins anew, as the registry of an earlier lab of this name is gone, too."""
        (self.folder / JOURNAL).unlink(missing_ok=True)

    def _who(self) -> str:
        uid = os.getuid()
        # By the kernel's word, not by that of the environment.
        try:
            user = f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
        except KeyError:
            user = f"uid {uid}"
        identities = Identities(self.folder)
        return f"{user} as {identities.terms([OPERATOR])[OPERATOR].uri}" if identities.folder.exists() else user

    def _write(self, entry: Mapping[str, Any], number: int = 0) -> int:
        """Appends a line that is on the disk when this returns; a new number is the next."""
        try:
            descriptor = os.open(self.folder / JOURNAL, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            with open(descriptor, "rb+", buffering=0) as file:  # noqa: PTH123 (of a descriptor)
                lock_descriptor(file.fileno(), poll_interval=_POLL_S)  # until it is closed
                before = file.read()
                number = number or before.count(b'"at_ns"') + 1
                torn = b"\n" if before and not before.endswith(b"\n") else b""
                file.write(torn + json.dumps({"number": number, **entry}).encode() + b"\n")
                os.fsync(file.fileno())
        except OSError as error:
            raise LabError(f"audit log: {error}; what cannot be written down is not done") from error
        return number


def _take(entry: dict[str, Any], acts: dict[int, Act]) -> None:
    """A line: an act begins, or ends."""
    number = int(entry["number"])
    if "status" in entry:
        acts[number] = replace(acts[number], status=entry["status"], reason=entry["reason"])
    else:
        acts[number] = Act(
            number, entry["at_ns"], entry["who"], entry["unit"], entry["what"], entry["detail"], "", "", KEPT_BY
        )
