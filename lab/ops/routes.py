"""The side of :class:`lab.lab.Lab` that publishes: route tables, and questions about them."""

from __future__ import annotations

import getpass
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

from lab.routing.compiled import Router
from lab.routing.document import read_path, read_sources, source_of, sources_of
from lab.routing.explanation import Explanation, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from lab.admin import AdminClient, PublishProgress, RevisionInfo, Tables


class Publishing(ABC):
    """What can be asked of a lab's control plane about routes."""

    def publish(
        self,
        routes: Path,
        *,
        expected_revision: int = 0,
        comment: str = "",
        unsafe_skip_phases: bool = False,
        progress: Callable[[PublishProgress], None] = lambda _: None,
    ) -> int:
        """Publishes a route table; returns its revision once every node has converged.

        Raises:
            InputError: it is not valid; the revision in force stays.
            StaleRevisionError: another revision is in force than the one expected.
            PublishError: a phase failed; the revision in force stays.
        """
        sources = sources_of(routes)
        read_sources(sources)  # said here, with no lab in the way
        with self._control_plane() as admin:
            return admin.publish(
                sources,
                author=getpass.getuser(),
                comment=comment,
                expected_revision=expected_revision,
                unsafe_skip_phases=unsafe_skip_phases,
                progress=progress,
            )

    def set_use_case(
        self,
        use_case: str,
        file: Path,
        *,
        expected_revision: int = 0,
        comment: str = "",
        progress: Callable[[PublishProgress], None] = lambda _: None,
    ) -> int:
        """Publishes one use case anew, at a cost that does not grow with the route table; see :meth:`publish`."""
        source = source_of(file)
        with self._control_plane() as admin:
            return admin.publish_change(
                {use_case: source},
                author=getpass.getuser(),
                comment=comment,
                expected_revision=expected_revision,
                progress=progress,
            )

    def rollback(
        self,
        revision: int,
        *,
        expected_revision: int = 0,
        progress: Callable[[PublishProgress], None] = lambda _: None,
    ) -> int:
        """Publishes an earlier revision's route table anew; returns the new revision."""
        with self._control_plane() as admin:
            return admin.rollback(
                revision, author=getpass.getuser(), expected_revision=expected_revision, progress=progress
            )

    def revision(self, revision: int = 0) -> RevisionInfo:
        """One revision with its route table; 0 for the one in force."""
        with self._control_plane() as admin:
            return admin.revision(revision)

    def revisions(self, *, tables: bool = False, since_ns: int = 0, named: Collection[int] = ()) -> list[RevisionInfo]:
        """Revisions, oldest first.

        Args:
            tables: with their route tables, which take longer.
            since_ns: without those that another one had replaced by then, Unix nanoseconds.
            named: with these all the same, if they exist.
        """
        with self._control_plane() as admin:
            return admin.revisions(self._tables if tables else None, since_ns=since_ns, named=named)

    def explain(self, use_case: str, context: Mapping[str, str], *, file: Path | None = None) -> Explanation:
        """Where a request would go and why; by a file with no lab up, or by the revision in force."""
        if file is not None:
            return explain(Router.of_document(read_path(file).document), use_case, context)
        in_force = self.revision()
        return explain(Router.of_document(in_force.document or {}, in_force.revision), use_case, context)

    @cached_property
    def _tables(self) -> Tables:
        """What is asked for after each run, by when there may be hundreds."""
        return {}

    @abstractmethod
    def _control_plane(self) -> AdminClient:
        """Where to ask, or :class:`lab.errors.LabNotRunningError`."""
