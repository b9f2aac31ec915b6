"""Users as squares: their versions, and which users move when a weight changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from lab.checkers.plain import decide
from lab.plugins.workshop.figures import Figure
from lab.report.palette import style_of

_USERS = 360


def versions_of(
    document: Mapping[str, Any], use_case: str, context: Mapping[str, str], *, users: int = _USERS
) -> list[str]:
    """The version that each of the users ``u0``, ``u1`` … gets in a context."""
    return [decide(document, use_case, {**context, "user_id": f"u{number}"}).version for number in range(users)]


def users_picture(now: Sequence[str], before: Sequence[str] = (), title: str = "") -> Figure:
    """One square for each user, with the version's number; users whose version changed are framed."""
    names = sorted(set(now) | set(before))
    moved = [bool(before) and was != is_now for was, is_now in zip(before or now, now, strict=True)]
    squares = Markup("").join(
        Markup('<i class="{}{}" title="u{}: {}">{}</i>').format(
            style_of(names.index(version) + 1), " moved" if changed else "", number, version, version.removeprefix("v")
        )
        for number, (version, changed) in enumerate(zip(now, moved, strict=True))
    )
    shares = ", ".join(f"{version}: {now.count(version)}" for version in names)
    caption = f"{len(now)} users; {shares}."
    if before:
        caption += f" Framed: the {sum(moved)} whose version changed."
    return Figure(title or "Versions of users", Markup('<div class="row">{}</div>').format(squares), caption)
