"""Several drivers ask the API server at the same time, each in its own thread."""

from __future__ import annotations

import subprocess
import sys

_MANY = """
import sys, threading
from lab.plugins.kubernetes import api
from lightkube.core.decoders import decode_list, decode_status

sys.setswitchinterval(1e-5)

def decode(kind, start):
    start.wait()
    decode_list(b'{"items": [], "metadata": {}}', kind)
    decode_status(b'{"code": 404}')

for kind in api._READ:
    start = threading.Barrier(8)
    threads = [threading.Thread(target=decode, args=(kind, start)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
"""


def test_answers_can_be_read_in_many_threads_from_the_first_one_on() -> None:
    ended = subprocess.run([sys.executable, "-c", _MANY], capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stderr) == (0, "")
