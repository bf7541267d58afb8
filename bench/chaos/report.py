"""The outcome of a run, as JSON and as a short table; JSON to a page of Markdown.

python -m bench.chaos.report report.json --markdown docs/chaos.md
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from bench.chaos.checker import Verdict
from bench.chaos.page import page
from bench.chaos.plan import Plan
from bench.machine import Machine


@dataclass(frozen=True, slots=True)
class Outcome:
    command: str  # that repeats it
    plan: Plan
    machine: Machine
    verdict: Verdict
    done: Mapping[str, int]  # faults that happened, by kind
    skipped: Mapping[str, int]
    died: Mapping[str, list[str]]  # processes that ended though nobody killed them
    seen: Mapping[str, int]  # what clients saw
    storm_s: float
    drain_s: float
    restless: str  # what had not come to rest when the wait was given up
    notes: list[str]

    @property
    def kills(self) -> int:
        return sum(n for kind, n in self.done.items() if kind.startswith("kill-") or kind == "wipe")

    @property
    def wipes(self) -> int:
        return self.done.get("wipe", 0) + self.done.get("flush", 0)

    @property
    def ok(self) -> bool:
        return self.verdict.ok and not self.restless


def as_json(outcome: Outcome) -> dict[str, object]:
    plan = {name: value for name, value in asdict(outcome.plan).items() if name != "faults"}
    verdict = outcome.verdict
    return {
        "ok": outcome.ok,
        "command": outcome.command,
        "plan": plan | {"faults": len(outcome.plan.faults)},
        "machine": asdict(outcome.machine),
        "kills": outcome.kills,
        "wipes": outcome.wipes,
        "storm_s": round(outcome.storm_s, 1),
        "drain_s": round(outcome.drain_s, 1),
        "restless": outcome.restless,
        "counts": verdict.counts,
        "differences": verdict.differences,
        "shown": verdict.shown,
        "faults": dict(sorted(outcome.done.items())),
        "faults_that_found_no_victim": dict(sorted(outcome.skipped.items())),
        "ended_by_themselves": outcome.died,
        "clients_saw": dict(sorted(outcome.seen.items())),
        "notes": outcome.notes,
    }


def as_table(outcome: Outcome) -> str:
    counts, machine = outcome.verdict.counts, outcome.machine
    billed = counts.get("billed", 0)
    kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(outcome.done.items()))
    wrong = {name: n for name, n in outcome.verdict.differences.items() if n}
    rows = {
        "seed": outcome.plan.seed,
        "machine": f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB",
        "commit": machine.commit,
        "Redis": f"appendfsync {outcome.plan.appendfsync}, lease {outcome.plan.lease_ms} ms",
        "drains": outcome.plan.drains,
        "requests billed": f"{billed:,} ({billed / max(outcome.storm_s, 1):,.0f}/s)",
        "charged exactly": f"{counts.get('exact', 0):,}",
        "kills": f"{outcome.kills}, {outcome.wipes} losses of all of Redis",
        "faults": kinds,
        "orphans": f"{counts.get('orphans', 0)}, {counts.get('billed orphans', 0)} of them billed",
        "corrections": counts.get("corrections", 0),
        "estimated": counts.get("estimated", 0),
        "top-ups": counts.get("top-ups", 0),
        "storm": f"{outcome.storm_s:.0f} s",
        "drained within": f"{outcome.drain_s:.1f} s",
        "not at rest": outcome.restless or "nothing",
        "differences": ", ".join(f"{name}: {n}" for name, n in wrong.items()) or 0,
        "result": "all holds" if outcome.ok else "FAILED",
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    shown = [
        f"- {name}: {text}"
        for name, texts in outcome.verdict.shown.items()
        for text in texts[:SHOWN_OF_EACH]
    ]
    return "\n".join(["| | |", "|---|---|", *lines, *([""] if shown else []), *shown])


SHOWN_OF_EACH = 5


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos.report", description=__doc__)
    parser.add_argument("report", type=Path, help="the JSON of a run")
    parser.add_argument("--markdown", type=Path, required=True, help="the page to write")
    given = parser.parse_args()
    given.markdown.write_text(page(orjson.loads(given.report.read_bytes())))


if __name__ == "__main__":
    main()
