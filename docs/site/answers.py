"""``python -m docs.site.answers`` writes docs/answers.md: questions of public threads, each answered by one command.

The answers are the data below. The page shows of each command the lines that ``says`` finds, as the lab printed them;
a test runs every command, and holds its exit status and those lines.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from docs.site.blocks import write
from docs.site.links import CHECKOUT, PAGES
from lab.errors import UnitError
from lab.lab import Lab

PAGE = PAGES / "answers.md"
SPEC = CHECKOUT / "docs" / "examples" / "answers.toml"
BLOCK = "answers"
TIMEOUT_S = 180
"""For one command, which takes a minute at most on a machine that has nothing else to do."""
_BIN = Path(sys.executable).parent
_WIDTH = 100
_TIE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A question that people ask in public, and the command that answers it.

    Attributes:
        question: the heading.
        threads: where it was asked, e.g. ``istio/istio#58870``.
        command: for a shell, on a lab of :data:`SPEC`.
        verdict: the answer, in Markdown.
        says: patterns of lines that the command must print; the page shows those lines.
        status: exit status of the command.
    """

    question: str
    threads: tuple[str, ...]
    command: str
    verdict: str
    says: tuple[str, ...]
    status: int = 0


_PLANNED, _LATENCY = r"\d+ planned at .* rps: \d+ right$", r"latency +p50 [\d.]+"

ANSWERS = (
    Answer(
        question="Why do shadow copies of requests above 1 MB vanish?",
        threads=("istio/istio#58870", "envoyproxy/envoy#18364", "projectcontour/contour#5869"),
        command="lab load --topology mesh --use-case HomepageRows --payload 2000000 --rate 5 --duration 4 --streams 0",
        verdict="**They need not.** Envoy buffers a request that it mirrors, 1 MB by default, and drops the copy of "
        "a larger one without an error. Here copies leave by a listener of their own, whose buffer holds a "
        "whole request. Models count the copies that arrive, and the checker `shadow` compares them by size.",
        says=(r"correctness +shadow +valid +copies of eligible requests: over 1 MB (\d+)/\1 \(100",),
    ),
    Answer(
        question="Does a sticky canary of 10 % stay at 10 %?",
        threads=("fluxcd/flagger#1647", "fluxcd/flagger#1532", "istio/istio#33343"),
        command="lab load --topology mesh --use-case ContinueWatchingRanking --context segment=adults --users 300 "
        "--rate 150 --duration 6",
        verdict="**Yes, if a hash of the user decides.** Where only canary users get a cookie, every further "
        "request of the others is drawn again, and soon all are canary users. Here a hash of rule and user "
        "decides: no cookie, nothing to store, and raising the share moves only the users added.",
        says=(
            r"correctness +split +valid +1 of 1 draws had enough units",
            r"correctness +stickiness +valid +\d+ of \d+ units were answered again, \d+ times, always by the same",
        ),
    ),
    Answer(
        question="How does a canary of 1 % get enough traffic to be judged?",
        threads=("fluxcd/flagger#1689", "fluxcd/flagger#1035"),
        command='lab roll up-next --to v2 --steps 1,100 --hold 2 --abort-on "error-rate>1%,misroutes>0"',
        verdict="**By choosing the users.** The probe knows the hash, so it picks users such that both versions get "
        "equally many requests at every step. Each condition says how many requests it was judged by, and with which "
        "power; too few requests are *unknown*, and the step goes on.",
        says=(
            r" *OK: error rate of the new version [\d.]+ % ≤ 1 %; n = \d+, power \d+ % against 5 %",
            r"up-next is at v2, revision \d+",
        ),
    ),
    Answer(
        question="Has my change reached every proxy yet?",
        threads=("projectcontour/contour#2021", "istio/istio#23956", "envoyproxy/envoy#5174"),
        command="lab routes publish docs/examples/answers.routes.yaml",
        verdict="**Yes, when the command returns**, with the time of every node. An acknowledged cluster may still be "
        "warming, so acknowledgement alone does not say that. Models load first, then Envoys get endpoints, and only "
        "when those are in use do resolvers and gateways get the rules that need them.",
        says=(
            r". revision \d+: loaded +[\d.]+ ms",
            r". revision \d+: endpoints +[\d.]+ ms",
            r". revision \d+: converged +[\d.]+ ms",
            r"homepage-sidecar +sidecar +[\d.]+ +[\d.]+",
            r"revision \d+ is in force",
        ),
    ),
    Answer(
        question="Why did this user get this version?",
        threads=("istio/istio#43490", "istio/istio#12960"),
        command="lab routes explain ContinueWatchingRanking --user u7 --context device=tv",
        verdict="**The rules say so**, each with its reason, from a revision in force or from a file before it is "
        "published.",
        says=(
            r"✗ kids: segment is not in the request",
            r"✓ canary: user_id is u7: bucket \d+ is among \d+ to \d+ of cw-ranker@v1",
            r"→ cw-ranker@v1, routing key cw-ranker.v1",
        ),
    ),
    Answer(
        question="Why does gRPC send everything to one pod?",
        threads=("dapr/dapr#1444", "traefik/traefik#6069", "knative/serving#6681"),
        command="lab load --topology mesh --use-case UpNext --rate 50 --duration 3",
        verdict="**Because a load balancer of connections balances connections**, and gRPC keeps one. Envoy balances "
        "requests: both replicas of the cluster answered. Notebook 2, *Two ways to talk*, adds a replica under load.",
        says=(r"correctness +identity +valid +\d+ answers by 2 replicas",),
    ),
    Answer(
        question="Does the proxy stream tokens, or collect them?",
        threads=("dstackai/dstack#4269", "BerriAI/litellm#26102"),
        command="lab load --topology gateway --use-case UpNext --streams 100 --rate 20 --duration 3",
        verdict="**Compare the first item with the last.** A proxy that collects delivers both at the same time. The "
        "checker `streams` holds that every item arrives once, in order, from one version.",
        says=(
            r"streams +\d+, not in these: first item p50 [\d.]+ ms from sending, last item p50 [\d.]+",
            r"correctness +streams +valid +(\d+) of \1 streams are complete",
        ),
    ),
    Answer(
        question="Does every gateway replica multiply my rate limit?",
        threads=("agentgateway/agentgateway#1911", "envoyproxy/ratelimit#377"),
        command="lab load --topology gateway --use-case UpNext --context tenant=batch --rate 60 --duration 3",
        verdict="**Not here:** the limit of 20 requests a second is divided among the two gateways. The checker "
        "`limits` recomputes the token buckets from what models received: neither more nor less was admitted.",
        says=(
            r"correctness +limits +valid +batch: \d+ admitted, \d+ refused",
            r"availability +answered +valid +\d+ answered, 0 failed, \d+ refused as the table says",
        ),
    ),
    Answer(
        question="Which status does a caller get when there is no route, and does it say why?",
        threads=("envoyproxy/envoy#22688", "linkerd/linkerd#890"),
        command="lab call NoSuchUseCase --topology mesh",
        verdict="**`NOT_FOUND`, in every topology**, and the message names the use case and the revision. Proxies "
        "by themselves differ: 5, 12 or 14, with or without a message.",
        says=(r"lab: NOT_FOUND: use case 'NoSuchUseCase' is not in the route table \(revision \d+\)",),
        status=1,
    ),
    Answer(
        question="Does a sidecar slow large requests down?",
        threads=("envoyproxy/envoy#35732",),
        command="for path in direct mesh; do lab load --topology $path --use-case UpNext --payload 4000000 --rate 4 "
        "--duration 4 --streams 0; done",
        verdict="**By a few milliseconds at 4 MB, by less than one at 400 B**: "
        "[figures](figures.md#what-each-topology-adds) has the intervals. Requests arrive whole through HTTP/2 windows "
        "of 1 MB a stream and 16 MB a connection. Two runs share no moment of the machine; `lab bench topologies` "
        "interleaves them.",
        says=(_PLANNED, _LATENCY, r"correctness +delivery +valid +\d+ answers and 0 copies say what the model"),
    ),
    Answer(
        question="What does proxyless gRPC save, against a sidecar?",
        threads=("linkerd/linkerd2#9417", "istio/istio.io#10168"),
        command="for path in mesh proxyless; do lab load --topology $path --use-case UpNext --rate 50 --duration 3 "
        "--streams 0; done",
        verdict="**Nearly all that a sidecar adds**: in interleaved rounds it is as fast as a direct call, as "
        "[figures](figures.md#what-each-topology-adds) shows; on a busy machine, two runs like these cannot. gRPC's "
        "own xDS does in the caller's process what Envoy does beside it, but cannot mirror.",
        says=(_PLANNED, _LATENCY, r"correctness +routing +valid +\d+ answered by models, 0 refused, 0 failed"),
    ),
    Answer(
        question="How much memory does each cluster cost a sidecar?",
        threads=("envoyproxy/envoy#4196", "envoyproxy/envoy#18376"),
        command="lab bench on-demand --clusters 10,1000 --rounds 3",
        verdict="**Some 60 KB, or nothing**: a sidecar that gets every cluster grows, and one that fetches a cluster "
        "on the first request for it does not; the caller here uses ten. The exit status is 2, as three rounds are too "
        "few for an interval; the bench takes seven by itself, and up to ten thousand clusters.",
        says=(
            "clusters +sidecar +resident memory",
            *(f" *{n} +{kind} +" for n in ("10", "1,000") for kind in ("on demand", "eager")),
        ),
        status=2,
    ),
)


@contextmanager
def lab_of_answers(home: Path) -> Iterator[Lab]:
    """Brings a lab up in which every command of the page works, for as long as the body runs."""
    lab = Lab(f"answers-{secrets.token_hex(3)}", home=home)
    try:
        lab.up(spec=SPEC, runtime="process")
        yield lab
    finally:
        lab.down()


def ask(answer: Answer, lab: Lab, *, commands: Path = _BIN) -> list[str]:
    """Runs the command on a lab, and returns the lines that it must print.

    Args:
        answer: what names the command.
        lab: where it works; see :func:`lab_of_answers`.
        commands: folder that has ``lab``.

    Raises:
        UnitError: it ended with another status, or did not print one of them.
    """
    environment = {
        **os.environ,
        "PATH": f"{commands}:{_BIN}:/usr/bin:/bin",
        "LAB_NAME": lab.name,
        "LAB_HOME": str(lab.folder.parent.parent),
        "COLUMNS": "300",
    }
    done = subprocess.run(
        ["bash", "-c", answer.command],
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    missed = [says for says in answer.says if not re.search(f"^{says}", done.stdout, re.MULTILINE)]
    if done.returncode != answer.status or missed:
        raise UnitError(f"{answer.command}: status {done.returncode}, not said: {missed}\n{done.stdout}")
    lines = (line.rstrip() for line in done.stdout.splitlines())
    return [line for line in lines if any(re.match(says, line) for says in answer.says)]


def written(answer: Answer, lines: list[str]) -> str:
    """Markdown of one question: where it was asked, the command with what it printed, and the verdict."""
    asked = ", ".join(f"[{thread}](https://github.com/{thread.replace('#', '/issues/')})" for thread in answer.threads)
    tied = re.sub(r" (?!--)", _TIE, answer.command)  # an option and its value stay on one line
    lines_of_it = textwrap.wrap(tied, _WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    command = " \\\n".join(lines_of_it).replace(_TIE, " ")
    printed = "\n".join(re.sub(r" {2,}", "  ", line) for line in lines)
    verdict = textwrap.fill(answer.verdict, 120, break_on_hyphens=False)
    return f"## {answer.question}\n\nAsked in {asked}.\n\n```text\n$ {command}\n{printed}\n```\n\n{verdict}"


def main() -> None:
    """Asks every question, and writes the page's block."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as home, lab_of_answers(Path(home)) as lab:
        sections = [written(answer, ask(answer, lab)) for answer in ANSWERS]
    write(PAGE, {BLOCK: "\n\n".join((*sections, f"*{os.cpu_count()} cores, commit {commit}*"))})


if __name__ == "__main__":
    main()
