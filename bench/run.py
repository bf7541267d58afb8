"""One command: a fake provider, a whole Ops-Center before it, load on both, the difference.

python -m bench.run            measures, prints a table, writes bench/results/<commit>.json
python -m bench.run --smoke    seconds; fails on wrong answers and wrong charges, never on speed
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import uvloop

from bench import machine, stack, truth
from bench.load import Load, Result, run

RESULTS = Path(__file__).parent / "results"
PRICES = {"input": "0.15", "output": "0.6", "cache_read": "0.075"}
ROLES = ("gateway", "redis", "drain")


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing that is measured, once at the provider and once through the gateway."""

    name: str
    upstream_model: str
    connections: int
    requests: int
    stream: bool = False
    rate: float | None = None

    @property
    def model(self) -> str:
        return f"bench/{self.name}"


SCENES = (
    Scene("plain", "mock/ok?in=200&out=80&cached=50&bytes=400", 32, 20_000),
    Scene("stream", "mock/ok?in=200&out=80&chunks=20&bytes=400", 32, 10_000, stream=True),
    Scene("paced", "mock/ok?in=200&out=80&chunks=20&chunk_ms=10&bytes=400", 32, 1_000, stream=True),
    Scene("steady", "mock/ok?in=200&out=80&bytes=400&latency_ms=5", 64, 3_000, rate=300.0),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One scene: both loads, and CPU per request by role in microseconds."""

    scene: Scene
    direct: Result
    through: Result
    cpu_us: dict[str, float]

    @property
    def errors(self) -> int:
        return self.direct.errors.total() + self.through.errors.total()

    def row(self) -> dict[str, object]:
        return {
            "scene": self.scene.name,
            "requests": self.through.answered,
            "direct_per_second": round(self.direct.per_second),
            "through_per_second": round(self.through.per_second),
            "added_ms": {p: _added(self, p) for p in (50, 99)},
            "cpu_us": {role: round(self.cpu_us.get(role, 0.0), 1) for role in ROLES},
            "errors": dict(self.direct.errors + self.through.errors),
        }


def measure(running: stack.Stack, scene: Scene, warm: int) -> Measured:
    """Warms up, then loads the provider alone and the gateway before it, one after the other."""
    direct = Load(running.upstream_url, scene.upstream_model, connections=scene.connections)
    direct = replace(direct, requests=scene.requests, stream=scene.stream, rate=scene.rate)
    through = replace(direct, url=running.door_url, model=scene.model, key=running.key)
    for load in (direct, through):
        uvloop.run(run(replace(load, requests=warm, rate=None)))
    alone = uvloop.run(run(direct))
    before = machine.cpu_seconds(running.pid)
    result = uvloop.run(run(through))
    after = machine.cpu_seconds(running.pid)
    per_request = 1e6 / max(result.answered, 1)
    used = {role: (after[role] - before.get(role, 0.0)) * per_request for role in after}
    return Measured(scene, alone, result, used)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    where = machine.describe()
    scenes = [scene for scene in SCENES if not options.scene or scene.name in options.scene]
    if options.smoke:
        scenes = [replace(scene, requests=min(scene.requests, 200), rate=None) for scene in scenes]
    try:
        with stack.started(options.workers, options.upstream_workers) as running:
            stack.serve_provider(running)
            for scene in scenes:
                stack.serve_model(running, scene.model, scene.upstream_model, PRICES)
            measured = [measure(running, scene, 20 if options.smoke else 500) for scene in scenes]
            verdict = truth.compare(running, {scene.model: PRICES for scene in scenes})
    except stack.StackError as error:
        print(error, file=sys.stderr)
        return 1
    return _report(where, measured, verdict, options)


def _report(
    where: machine.Machine,
    measured: Sequence[Measured],
    verdict: truth.Verdict,
    options: argparse.Namespace,
) -> int:
    report = {
        "machine": asdict(where),
        "workers": options.workers,
        "method": "bench/README.md",
        "scenes": [each.row() for each in measured],
        "money": asdict(verdict),
    }
    text = json.dumps(report, indent=2)
    if not options.smoke:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{where.commit}.json").write_text(text + "\n")
    print(text if options.json else _table(report))
    return 1 if verdict.problems or any(each.errors for each in measured) else 0


def _table(report: dict[str, Any]) -> str:
    lines = [
        "scene   requests  direct/s  through/s  added p50  added p99 ms"
        "  CPU us/request: gateway  redis  drain"
    ]
    for row in report["scenes"]:
        added, cpu = row["added_ms"], row["cpu_us"]
        lines.append(
            f"{row['scene']:7} {row['requests']:8}  {row['direct_per_second']:8}"
            f"  {row['through_per_second']:9}  {added[50]:9.3f}  {added[99]:12.3f}"
            f"  {cpu['gateway']:23.1f}  {cpu['redis']:5.1f}  {cpu['drain']:5.1f}"
        )
        lines += [f"        error: {kind}: {count}" for kind, count in row["errors"].items()]
    money = report["money"]
    lines.append(f"billed {money['billed']}, charged {money['charged']}, differences:")
    lines += [f"  {problem}" for problem in money["problems"]] or ["  none"]
    return "\n".join([*lines, " ".join(f"{k} {v};" for k, v in report["machine"].items())])


def _added(measured: Measured, percent: int) -> float:
    """What the gateway adds: its percentile less the provider's own, in milliseconds."""
    through = measured.through.latency.percentile(percent)
    return round((through - measured.direct.latency.percentile(percent)) * 1000, 3)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="What the door costs.")
    parser.add_argument("--smoke", action="store_true", help="few requests; only errors count")
    parser.add_argument("--workers", type=int, default=1, help="proxy workers")
    parser.add_argument("--upstream-workers", type=int, default=1)
    parser.add_argument("--scene", action="append", choices=[scene.name for scene in SCENES])
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
