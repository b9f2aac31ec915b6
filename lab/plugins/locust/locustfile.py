"""The default locustfile, and an example for your own.

    lab load --engine locust --locustfile my_locustfile.py

Locust draws tasks by their weights. ``ask`` waits until this user's next request is due and sends it; arguments left
out are drawn from the mix of `lab load`. It returns the outcome: ``status``, ``model``, ``version``, …

Set a ``wait_time`` (``from locust import between``; ``wait_time = between(1, 3)``) to make users pause after each
answer, as people do. That is a closed loop: it slows down with the system that it measures, and the verdict says so.
"""

from locust import task

from lab.plugins.locust import LabUser


class Visitor(LabUser):
    """Asks for any use case of the run."""

    @task(9)
    def ask_for_anything(self) -> None:
        """Nine requests in ten: no argument set."""
        self.ask()

    @task(1)
    def ask_from_the_phone(self) -> None:
        """One request in ten."""
        self.ask(context={"device": "phone"})
