"""What a checker is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.checkers.verdict import Claim, Verdict

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Checker:
    """A checker: a file that defines such a value adds one, see :mod:`lab.checkers.kinds`.

    Attributes:
        name: as its verdicts have it.
        question: that it answers about a run, in one sentence.
        subject: what a run must contain to be judged, e.g. ``a shadow``; empty for a checker that judges every run.
        blind: what it cannot see, in a clause, for the docs.
        claim: what its verdicts are about.
        gather: collects evidence that no other file of a run has, as JSON data, from the
            :class:`lab.runs.RunContext` of a run that has just ended. It is saved and sealed with the run, and is in
            :attr:`Evidence.gathered`; None is not saved.
        absent: returns whether evidence of the subject is not there that a run should have which declares this checker,
            see :attr:`Evidence.expected`; called where ``check`` gave no verdict. By default it is not.
        explains: returns the ids of requests that failed as its own evidence says they had to, whatever the route table
            says, or that a fallback answered for that reason; they are in :attr:`Evidence.explained` of all checkers.
        tree: returns the calls that one request is a part of, from what this checker has gathered, the document of
            the run's plan, and the request's id; None if it is a part of none. JSON data: ``id``, ``caller``,
            ``user_id``, ``status``, ``took_ms``, ``via``, ``critical_path`` of ids, and ``steps``, each with ``name``,
            ``id``, ``answered_by``, ``status``, ``began_ms``, ``took_ms``, and ``steps`` if it has any.
        check: judges a run by its evidence. Only a checker with a subject may return None: the run does not contain
            the subject at all. If the run contains too little of it, the verdict is unknown.
    """

    name: str
    question: str
    blind: str = ""
    subject: str = ""
    claim: Claim = Claim.CORRECTNESS
    gather: Callable[[Any], Any] | None = None
    absent: Callable[[Evidence], bool] | None = None
    explains: Callable[[Evidence], Collection[str]] | None = None
    tree: Callable[[Any, Mapping[str, Any], str], Mapping[str, Any] | None] | None = None
    check: Callable[[Evidence], Verdict | None]
