"""Consoles for tests: the real server on a free port, in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from lab.lab import Lab
from lab.plugins.console import Actions, Console, SavedRuns, Watcher
from lab.plugins.console.board import Board


@contextmanager
def serving(board: Board, lab: Lab | None = None, watcher: Watcher | SavedRuns | None = None) -> Iterator[Console]:
    """A console of this board that serves for the block; with a lab one that controls it."""
    actions, story = Actions(board, lab) if lab else None, watcher.story if watcher else None
    console, is_ready = Console(board, actions=actions, story=story), Event()
    loop = asyncio.new_event_loop()
    task = loop.create_task(console.serve(is_ready.set))

    def run() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            pass
        finally:
            loop.close()

    thread = Thread(target=run)
    thread.start()
    try:
        assert is_ready.wait(10)
        yield console
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
