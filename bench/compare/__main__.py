"""One command: Ops-Center, nginx and LiteLLM before the same fake provider, interleaved, medians.

python -m bench.compare            minutes; bench/results/compare-<commit>.json, and the README
python -m bench.compare --quick    one short round: shows that all works, its figures are rough
python -m bench.compare --check    whether the README's tables are those of its results
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from bench import cores, machine, stack, truth
from bench.compare import gateways, measure, nginx, page
from bench.compare.gateways import Gateway, Start, Started
from bench.compare.litellm import FOLDER, LiteLLM
from bench.compare.measure import At, Sample
from bench.compare.ours import Ours
from bench.compare.scenes import PEAK, PRICES, SCENES, Scene
from bench.cores import Layout
from bench.stack import StackError

WARM_REQUESTS = 300
IDLE_S = 3.0
QUICK = 0.34  # of the time that each scene usually has
RATE_MAX = 4000.0  # a second: more the generator does not pace well
CORE_MAX = 0.9  # a gateway that would need more of its core is spared the scene of many streams


class Course:
    """All rounds over gateways that run."""

    def __init__(self, upstream_url: str, started: Sequence[Started], share: float) -> None:
        self._upstream_url, self._began = upstream_url, time.monotonic()
        self._gateways = [each.gateway for each in started]
        self._share = share
        self._layout: Layout = cores.layout()
        self._peaks: dict[str, float] = {}
        self._stream_cpu_us: dict[str, float] = {}
        self.samples: list[Sample] = []

    def pin(self, own: int) -> None:
        """Everything that this process started, and itself, and then the gateways."""
        cores.pin(machine.processes(own), self._layout.others)
        for gateway in self._gateways:
            gateways.place(gateway, self._layout)

    def warm(self) -> None:
        for gateway in self._gateways:
            requests = 30 if gateway.name == "litellm" else WARM_REQUESTS
            measure.warm(gateway, PEAK, requests)
            self.say(f"{gateway.name} is warm")

    def round(self, number: int, rounds: int) -> None:
        turn = number % len(self._gateways)
        order = [*self._gateways[turn:], *self._gateways[:turn]]
        for scene in SCENES:
            self.say(f"round {number + 1}/{rounds}: {scene.name}")
            scene = _shortened(scene, self._share)
            if scene.compared and not scene.of_peak:
                self._note(measure.alone(self._upstream_url, "", self._at(scene, number)))
            for gateway in order:
                self._one(gateway, scene, number)

    def say(self, what: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        print(f"[{minutes:2}:{seconds:02}] {what}", flush=True)

    def _one(self, gateway: Gateway, scene: Scene, number: int) -> None:
        peak = self._peaks.get(gateway.name, 0.0)
        needs = scene.rate * self._stream_cpu_us.get(gateway.name, 0.0) / 1e6
        if not scene.slow_too and needs > CORE_MAX:
            self.say(f"    {gateway.name:9} is spared: this would take {needs:.0f} cores of it")
            return
        at = self._at(scene, number, peak)
        if scene.of_peak:
            self._note(measure.alone(self._upstream_url, gateway.name, at))
        sample = measure.through(gateway, at)
        self._note(sample)
        if scene.name == PEAK.name:
            self._peaks.setdefault(gateway.name, sample.per_second)
        if scene.name == "stream":
            self._stream_cpu_us.setdefault(gateway.name, sample.cpu_us["gateway"])

    def _at(self, scene: Scene, number: int, peak: float = 0.0) -> At:
        rate = scene.rate or min(scene.of_peak * peak, RATE_MAX)
        return At(scene, number, rate, self._layout)

    def _note(self, sample: Sample) -> None:
        self.samples.append(sample)
        self.say(
            f"    {sample.gateway:9} {sample.per_second:8.0f}/s"
            f"  CPU {sample.cpu_us.get('gateway', 0.0):8.0f} us"
            f"  p50 {sample.p50:8.2f} ms  p99 {sample.p99:8.2f} ms"
            f"  cores {sample.gateway_core:4.0%} {sample.other_cores:4.0%}"
            + (f"  errors {sample.errors}" if sample.errors else "")
        )


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    if options.check or options.page:
        return _page_only(options)
    try:
        report = _measured(options)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    print(page.tables(report))
    if not options.quick:
        page.RESULTS.mkdir(exist_ok=True)
        path = page.RESULTS / f"compare-{report['machine']['commit']}.json"
        whole = {"summary": page.summary(report), **report}
        path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
        page.write(path)
        print(f"written: {path}, and its tables into {page.PAGE}")
    return 1 if report["errors"] or report["money"]["problems"] else 0


def _page_only(options: argparse.Namespace) -> int:
    if options.page:
        page.write(options.page)
    wrong = page.problem()
    print(wrong or "the tables are those of the results")
    return 1 if wrong else 0


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    where, rounds = machine.describe(), 1 if options.quick else options.rounds
    with contextlib.ExitStack() as open_:
        folder = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="ocb-")))
        upstream_url = open_.enter_context(stack.provider(folder, 1))
        ours = Ours()
        print("starting all gateways, each more than once", flush=True)
        times = 2 if options.quick else 3
        started = [
            open_.enter_context(gateways.started(start, at, upstream_url, times))
            for start, at in _starts(options, ours, folder)
        ]
        ours.prepare(folder)
        course = Course(upstream_url, started, QUICK if options.quick else 1.0)
        course.pin(os.getpid())
        idle = {each.gateway.name: _idle(each.gateway) for each in started}
        course.warm()
        for number in range(rounds):
            course.round(number, rounds)
        course.say("comparing every charge with what the provider billed")
        assert ours.stack is not None
        money = truth.compare(ours.stack, {scene.model: PRICES for scene in SCENES})
        about = {each.gateway.name: _about(each, idle[each.gateway.name]) for each in started}
    return {
        "machine": asdict(where),
        "method": "bench/README.md",
        "rounds": rounds,
        "gateways": about,
        "first_start_s": round(started[0].starts_s[0], 2),
        "money": asdict(money),
        "errors": sum(sum(sample.errors.values()) for sample in course.samples),
        "samples": [sample.row() for sample in course.samples],
    }


def _starts(options: argparse.Namespace, ours: Ours, folder: Path) -> Iterator[tuple[Start, Path]]:
    """Each gateway and the folder that it lives in; raises StackError where one is missing."""
    if "nginx" not in options.without:
        nginx.version()
    yield ours.start, folder
    if "nginx" not in options.without:
        yield nginx.nginx, _made(folder / "nginx")
    if "litellm" not in options.without:
        litellm, at = LiteLLM(options.litellm), _made(folder / "litellm")
        litellm.install()
        litellm.try_database(at)
        yield litellm.start, at


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _idle(gateway: Gateway) -> dict[str, Any]:
    measure.rest(gateway)
    return {
        "memory_idle_mb": measure.memory_mb(gateway),
        "idle_cpu_percent": round(measure.idle_cpu_share(gateway, IDLE_S) * 100, 2),
    }


def _about(each: Started, idle: dict[str, Any]) -> dict[str, Any]:
    usual = each.starts_s[1:] or each.starts_s  # the first may have had to make things
    return {
        "about": each.gateway.about,
        "start_s": round(median(usual), 3),
        **idle,
        "memory_after_mb": measure.memory_mb(each.gateway),
    }


def _shortened(scene: Scene, share: float) -> Scene:
    return replace(scene, seconds=scene.seconds * share)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare", description="What gateways cost, side by side."
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one short round; nothing is written")
    parser.add_argument(
        "--without", action="append", default=[], choices=["nginx", "litellm"], help="leave it out"
    )
    parser.add_argument("--litellm", type=Path, default=FOLDER, help=f"its environment: {FOLDER}")
    parser.add_argument("--page", type=Path, help="only show these results in bench/README.md")
    parser.add_argument("--check", action="store_true", help="only compare bench/README.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
