"""Users for Locust alone, without `lab load`: each asks a gateway over REST, as one caller.

    locust -f _rest_locustfile.py --host http://127.0.0.1:9080

Environment variables: ``LAB_CALLER``, in whose name the users ask; ``LAB_USE_CASES``, which they ask for, joined by
commas; ``LAB_IDENTITY``, folder of the caller's certificate, if the gateway asks for one. Such a run leaves no history,
so nothing judges its answers; a worker counts an answer as failed by its HTTP status.
"""

import os
import random
from pathlib import Path

from locust import HttpUser, constant_throughput, task

CALLER = os.environ.get("LAB_CALLER", "homepage")
USE_CASES = os.environ.get("LAB_USE_CASES", "ContinueWatchingRanking").split(",")
IDENTITY = os.environ.get("LAB_IDENTITY", "")
USERS, TITLES = 1_000, 20


class Visitor(HttpUser):
    """Asks once a second, if the answers come that fast."""

    wait_time = constant_throughput(1)

    def on_start(self) -> None:
        """Draws its user id, and takes the caller's certificate."""
        self.user_id = f"u{random.randrange(USERS)}"  # noqa: S311 (no secret)
        if IDENTITY:
            folder = Path(IDENTITY) / "current"
            self.client.verify = str(folder / "ca.pem")
            self.client.cert = (str(folder / "cert.pem"), str(folder / "key.pem"))

    @task
    def ask(self) -> None:
        """One request."""
        use_case = random.choice(USE_CASES)  # noqa: S311 (no secret)
        context = {
            "caller": CALLER,
            "userId": self.user_id,
            "device": random.choice(("tv", "phone", "web")),  # noqa: S311 (no secret)
            "country": "US",
        }
        body = {
            "envelope": {"context": context},
            "titles": [{"id": f"t{number:02}"} for number in range(TITLES)],
        }
        self.client.post(f"/v1/use-cases/{use_case}:call", json=body, name=use_case)
