"""Publishes the first route table of a lab that Docker Compose brings up by itself.

``python -m lab.client.first_publish --control-plane HOST:PORT ROUTES``. `lab up` does the same for the labs that it
brings up.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lab.client.admin import AdminClient
from lab.errors import LabError
from lab.identity.user import author
from lab.routing.document import sources_of


def main() -> None:
    """Publishes unless a revision is in force; on failure prints one line and exits with status 1."""
    parser = argparse.ArgumentParser(prog="python -m lab.client.first_publish", description=__doc__)
    parser.add_argument("--control-plane", required=True, metavar="HOST:PORT", help="where to publish")
    parser.add_argument("routes", type=Path, help="the route table: a YAML file, or a folder of them")
    arguments = parser.parse_args()
    try:
        with AdminClient(arguments.control_plane) as admin:
            before = admin.status().revision
            revision = before or admin.publish(sources_of(arguments.routes), author=author(), comment="first")
    except LabError as error:
        sys.exit(str(error))
    sys.stderr.write(f"revision {revision} {'was' if before else 'is'} in force\n")


if __name__ == "__main__":
    main()
