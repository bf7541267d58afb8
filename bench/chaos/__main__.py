"""python -m bench.chaos --seed N: a storm over a whole Ops-Center, and whether the money survived.

Exit status 0 only when every check holds and all came to rest in time.
"""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
import time
from pathlib import Path

import orjson

from bench import machine
from bench.chaos import checker
from bench.chaos.calm import QUIET_MAX_S, come_to_rest
from bench.chaos.moves import Moves
from bench.chaos.plan import Plan, plan
from bench.chaos.report import Outcome, as_json, as_table
from bench.chaos.stage import Stage, staged
from bench.chaos.storm import Storm, topup_loop
from bench.chaos.topups import TopUps
from control.store import Store

SECONDS_PER_KILL = 2.0
WIPES_SHARE = 0.16
LONGEST_TIMES, LONGEST_PLUS_S = 2.0, 60.0  # the storm's time, for requests that are still to come
PROGRESS_S = 10.0


async def run(wanted: Plan, options: argparse.Namespace) -> Outcome:
    described = machine.describe()
    async with staged(wanted, options.connections, options.keep) as stage:
        if options.keep:
            print(f"files stay in {stage.home}", flush=True)
        topups = TopUps(stage.pool, stage.organisations, stage.truth, wanted.seed)
        storm = Storm(stage, topups)
        redis = Store(stage.redis.url)
        moves = Moves.of(stage.pool, redis, stage.organisations, stage.truth, wanted.seed)
        loops = (stage.keep(), topup_loop(topups), moves.keep_moving())
        helpers = [asyncio.create_task(loop) for loop in loops]
        stage.load.start()
        began = time.monotonic()
        await _storm(stage, storm, options.requests, options.longest, helpers)
        storm_s = time.monotonic() - began
        _say(f"the storm is over after {storm_s:.0f} s; now all comes to rest")
        moves.over = True
        drain_s, restless = await come_to_rest(stage, topups, _say)
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        await redis.close()
        _tell_deaths(stage, storm, began)
        storm.close()
        verdict = await checker.check(stage.truth, stage.postgres.url, stage.redis.url, stage.logs)
        if drain_s > QUIET_MAX_S and not restless:
            restless = f"it took {drain_s:.0f} s, more than {QUIET_MAX_S:.0f}"
        return Outcome(
            command=_command(wanted, options),
            plan=wanted,
            machine=described,
            verdict=verdict,
            done=dict(storm.done),
            skipped=dict(storm.skipped),
            died={part.name: part.deaths for part in stage.parts if part.deaths},
            seen=_seen(stage.truth),
            storm_s=storm_s,
            drain_s=drain_s,
            restless=restless,
            notes=stage.notes,
        )


async def _storm(
    stage: Stage,
    storm: Storm,
    requests: int,
    longest_s: float | None,
    helpers: list["asyncio.Task[None]"],
) -> None:
    """Until all faults are over and so many requests are billed, within a maximum."""
    longest_s = longest_s or stage.plan.seconds * LONGEST_TIMES + LONGEST_PLUS_S
    longest = time.monotonic() + longest_s
    shown = time.monotonic()
    raging = asyncio.create_task(storm.run())
    while not raging.done() or stage.billed() < requests:
        if failed := [helper for helper in helpers if helper.done()]:
            raging.cancel()
            failed[0].result()
        if raging.done() and time.monotonic() > longest:
            stage.notes.append(f"the time was over before {requests} requests were billed")
            break
        if time.monotonic() - shown > PROGRESS_S:
            shown = time.monotonic()
            kills = sum(n for kind, n in storm.done.items() if kind.startswith(("kill-", "wipe")))
            _say(f"{stage.billed():,} billed, {kills} kills")
        await asyncio.sleep(0.1)
    await raging


def _command(wanted: Plan, options: argparse.Namespace) -> str:
    kills = sum(fault.is_kill for fault in wanted.faults)
    return (
        f"python -m bench.chaos --seed {wanted.seed} --seconds {wanted.seconds:g} --kills {kills}"
        f" --wipes {wanted.count('wipe')} --requests {options.requests}"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _tell_deaths(stage: Stage, storm: Storm, began: float) -> None:
    """Deaths that nobody planned have no exact time; they explain what happened in the run."""
    start = time.time() - (time.monotonic() - began)
    stage.supervisor.workers[0].deaths += stage.supervisor.deaths_of_workers()
    for part in stage.parts:
        kind = "worker-died" if part in stage.workers else f"{part.name}-died"
        if part.deaths:
            storm.tell(kind, start)


def _seen(truth: Path) -> dict[str, int]:
    with contextlib.suppress(FileNotFoundError):
        found: dict[str, int] = orjson.loads((truth / "load.json").read_bytes())
        return found
    return {}


def main() -> int:
    options = _options().parse_args()
    kills = options.kills if options.kills is not None else int(options.seconds / SECONDS_PER_KILL)
    wipes = options.wipes if options.wipes is not None else round(kills * WIPES_SHARE)
    wanted = plan(options.seed, options.seconds, kills, wipes)
    _say(f"{wanted} with {len(wanted.faults)} faults")
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)  # Postgres dies on purpose here
    # told to stop, it leaves by the way on which all is tidied up
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    outcome = asyncio.run(run(wanted, options))
    if options.report:
        options.report.write_bytes(orjson.dumps(as_json(outcome), option=orjson.OPT_INDENT_2))
    print(as_table(outcome))
    return 0 if outcome.ok else 1


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=90.0, help="over which faults are spread")
    parser.add_argument("--requests", type=int, default=0, help="billed before the load stops")
    parser.add_argument("--longest", type=float, help="seconds after which it ends without them")
    parser.add_argument("--kills", type=int, help=f"default: one in {SECONDS_PER_KILL:.0f} s")
    parser.add_argument("--wipes", type=int, help="kills that lose all of Redis; default: 16 %%")
    parser.add_argument("--connections", type=int, default=48, help="of the load")
    parser.add_argument("--report", type=Path, help="file for the JSON")
    parser.add_argument("--keep", action="store_true", help="do not remove the run's folder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
