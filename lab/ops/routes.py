"""``lab.routes``: a lab's route table: validate, publish, list and compare revisions, explain decisions."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lab.identity.user import author
from lab.routing.compiled import Router
from lab.routing.document import RouteTable, read_path, read_sources, source_of, sources_of
from lab.routing.explanation import Explanation, explain
from lab.routing.owners import changes
from lab.runs.published import keep_published, keep_rollback

if TYPE_CHECKING:
    from lab.client.admin import Tables
    from lab.client.admin_values import PublishProgress, RevisionInfo
    from lab.routing.owners import Change
    from lab.runtime.context import LabContext


class Routes:
    """The route table of one lab.

    Methods that call the control plane raise :class:`lab.errors.LabNotRunningError` if it does not answer.
    """

    def __init__(self, context: LabContext) -> None:
        self._context = context
        # Each run reads all tables in force during it; by then there may be hundreds.
        self._tables: Tables = {}

    @staticmethod
    def validate(routes: Path) -> RouteTable:
        """Reads a route table; needs no lab.

        Raises:
            InputError: it is not valid.
        """
        return read_path(routes)

    def publish(
        self,
        routes: Path,
        *,
        expected_revision: int = 0,
        comment: str = "",
        unsafe_skip_phases: bool = False,
        callers: Collection[str] = (),
        owner: str = "",
        progress: Callable[[PublishProgress], None] = lambda _: None,
    ) -> int:
        """Publishes a route table; returns its revision once every node has converged.

        With ``callers``, it is in force for these only, and those for whom the same table is staged already, until it
        is published to all or rolled back. In the name of an ``owner``, who has a certificate, it may change what is
        theirs alone.

        Raises:
            InputError: it is not valid; the revision in force stays.
            StaleRevisionError: a revision other than the expected one is in force.
            PublishError: a phase failed; the revision in force stays.
            NotOwnedError: not all that changes is the owner's.
        """
        sources = sources_of(routes)
        read_sources(sources)  # rejects an invalid table even if no lab is up
        with self._context.admin(owner=owner) as admin:
            revision = admin.publish(
                sources,
                author=author(),
                comment=comment,
                expected_revision=expected_revision,
                unsafe_skip_phases=unsafe_skip_phases,
                callers=callers,
                progress=progress,
            )
        keep_published(self._context.folder, revision, sources)
        return revision

    def set_use_case(
        self,
        use_case: str,
        file: Path,
        *,
        expected_revision: int = 0,
        comment: str = "",
        owner: str = "",
        progress: Callable[[PublishProgress], None] = lambda _: None,
    ) -> int:
        """Publishes a change to one use case, at a cost independent of the table's size; see :meth:`publish`."""
        source = source_of(file)
        with self._context.admin(owner=owner) as admin:
            return admin.publish_change(
                {use_case: source},
                author=author(),
                comment=comment,
                expected_revision=expected_revision,
                progress=progress,
            )

    def rollback(
        self,
        revision: int = 0,
        *,
        expected_revision: int = 0,
        owner: str = "",
        progress: Callable[[PublishProgress], None] = lambda _: None,
    ) -> int:
        """Publishes an earlier revision's route table again; returns the new revision; see :meth:`publish`.

        Without a revision, it takes a staged one back: its callers follow the revision in force for all again.
        """
        with self._context.admin(owner=owner) as admin:
            to = revision or admin.revision().revision
            new = admin.rollback(revision, author=author(), expected_revision=expected_revision, progress=progress)
        keep_rollback(self._context.folder, new, to)
        return new

    def show(self, revision: int = 0) -> RevisionInfo:
        """One revision with its route table; 0 for the one in force."""
        with self._context.admin() as admin:
            return admin.revision(revision)

    def history(self, *, tables: bool = False, since_ns: int = 0, named: Collection[int] = ()) -> list[RevisionInfo]:
        """Revisions, oldest first.

        Args:
            tables: include their route tables, which takes longer.
            since_ns: leave out revisions that were replaced before this time, Unix nanoseconds.
            named: revisions to include all the same, if they exist.
        """
        with self._context.admin() as admin:
            return admin.revisions(self._tables if tables else None, since_ns=since_ns, named=named)

    def diff(self, a: int, b: int) -> list[str]:
        """Lines of a unified diff from revision ``a`` to revision ``b``; none if the tables are equal."""
        return self.compared(self.show(a), self.show(b))[0]

    @staticmethod
    def compared(a: RevisionInfo, b: RevisionInfo) -> tuple[list[str], list[Change]]:
        """The lines of :meth:`diff`, and the entries that differ, with their owners."""
        documents = [dict(each.document or {}) for each in (a, b)]
        before, after = (as_yaml(each).splitlines() for each in documents)
        name_a, name_b = (f"revision {each.revision}{for_callers(each.callers)}" for each in (a, b))
        lines = list(difflib.unified_diff(before, after, name_a, name_b, lineterm=""))
        return lines, list(changes(*map(RouteTable.of_valid, documents)))

    def explain(self, use_case: str, context: Mapping[str, str], *, file: Path | None = None) -> Explanation:
        """Where a request would go and why, by a file, which needs no lab, or by the revision in force."""
        if file is not None:
            return explain(Router.of_document(read_path(file).document), use_case, context)
        with self._context.admin() as admin:
            in_force = admin.revision(caller=context.get("caller", ""))
        return explain(Router.of_document(in_force.document or {}, in_force.revision), use_case, context)


def for_callers(callers: Collection[str]) -> str:
    """To whom something was published, to put after its name; empty for all."""
    return f" for {', '.join(callers)}" if callers else ""


def as_yaml(document: Mapping[str, Any] | None) -> str:
    """A route table as YAML text."""
    return str(yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=120))
