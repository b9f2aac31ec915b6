"""The lab's own part of the audit log: operations on units and faults, with the user of each.

It is ``audit.jsonl`` in the lab's folder, with a line before each act and a line after it. The control plane logs the
requests that it receives; it cannot log these acts, as it may be the unit that is killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from lab.client.admin_values import Act
from lab.clock import lab_time_ns
from lab.errors import LabError
from lab.identity import OPERATOR
from lab.identity.user import author
from lab.reading import parse_json, read_bytes
from lab.runtime.identities import Identities

JOURNAL = "audit.jsonl"
"""In the lab's folder."""

KEPT_BY = "lab"
_OK, _FAILED, _BROKEN_OFF = "OK", "FAILED", "CANCELLED"
_DAMAGED = "DAMAGED"
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class AuditLog:
    """The audit log of a lab.

    Attributes:
        acts: logged by the control plane and by the lab, oldest first.
        missing: why the control plane's acts are missing; empty if they are there.
    """

    acts: tuple[Act, ...]
    missing: str


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal of one lab."""

    folder: Path

    @contextmanager
    def doing(self, what: str, unit: str, detail: str = "") -> Iterator[None]:
        """Logs the body as an act: a line before it runs, and a line with its status afterwards.

        Args:
            what: the command, e.g. ``unit kill``.
            unit: its target, or several.
            detail: its options.

        Raises:
            LabError: the line cannot be written; the body did not run.
        """
        began = {"at_ns": lab_time_ns(), "who": self._who(), "unit": unit, "what": what, "detail": detail}
        number = self._write(began)
        status, reason = _OK, ""
        try:
            yield
        except BaseException as error:
            status, reason = (_FAILED, str(error)) if isinstance(error, Exception) else (_BROKEN_OFF, "")
            raise
        finally:
            with suppress(LabError):  # the act is done, even if its status cannot be written
                self._write({"status": status, "reason": reason}, number)

    def acts(self) -> list[Act]:
        """Returns all acts, oldest first. An act without a status has not ended, or its process was killed.

        Raises:
            LabError: the file cannot be read.
        """
        try:
            lines = read_bytes(self.folder / JOURNAL).decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LabError(f"audit log: {error}") from error
        acts: dict[int, Act] = {}
        for place, line in enumerate(lines, 1):
            try:
                _take(parse_json(line), acts)
            except (ValueError, TypeError, KeyError, OverflowError):
                # A line that was cut off or tampered with must show.
                acts[-place] = Act(0, 0, "", "", "", line[:80], _DAMAGED, f"line {place} of {JOURNAL}", KEPT_BY)
        return list(acts.values())

    def forget(self) -> None:
        """Deletes the journal of an earlier lab of this name."""
        (self.folder / JOURNAL).unlink(missing_ok=True)

    def _who(self) -> str:
        person = f"{author()} (uid {os.getuid()})"
        identities = Identities(self.folder)
        return (
            f"{person} as {identities.certificates([OPERATOR])[OPERATOR].uri}" if identities.folder.exists() else person
        )

    def _write(self, entry: Mapping[str, Any], number: int = 0) -> int:
        """Appends a line and syncs it to disk; returns its act's number, which is the next one unless given."""
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
            raise LabError(f"audit log: {error}; acts that cannot be logged are refused") from error
        return number


def _take(entry: dict[str, Any], acts: dict[int, Act]) -> None:
    """Adds one line to the acts: it begins or ends one."""
    number = int(entry["number"])
    if "status" in entry:
        acts[number] = replace(acts[number], status=entry["status"], reason=entry["reason"])
    else:
        acts[number] = Act(
            number, entry["at_ns"], entry["who"], entry["unit"], entry["what"], entry["detail"], "", "", KEPT_BY
        )
