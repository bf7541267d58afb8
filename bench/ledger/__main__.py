"""One command for the money path's figures.

python -m bench.ledger            measures, prints a table, writes bench/results/ledger.json
python -m bench.ledger --small    seconds, for a look; writes nothing
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import uvloop

from bench import machine
from bench.ledger import ingest, outage
from bench.ledger.place import Place, place
from bench.run import RESULTS

EVENTS, OUTAGE_EVENTS, POOLS = 100_000, 200_000, 10_000
FILE = "ledger.json"


async def measure(small: bool) -> dict[str, Any]:
    part = 20 if small else 1
    events, later, pools = EVENTS // part, OUTAGE_EVENTS // part, POOLS // part
    async with place() as made:
        figures: dict[str, Any] = {"bytes": await ingest.sizes(made, made.callers, events)}
        figures["ingest_all_shards"] = await ingest.ingest(made, made.callers, events)
        figures["ingest_one_shard"] = await ingest.ingest(made, made.callers[:1], events)
        figures["catch_up"] = await ingest.catch_up(made, made.callers, later)
        figures["proof"] = await ingest.proven(made)
        figures["refused_while_redis_is"] = await outage.refusals(made)
        figures["refilled"] = await _refilled(made, pools)
    return figures


async def _refilled(made: Place, pools: int) -> dict[str, Any]:
    await made.add_callers([nth % 64 for nth in range(pools - len(made.callers))])
    figures = await outage.refilled(made, pools)
    await ingest.proven(made)
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description="The money path.")
    parser.add_argument("--small", action="store_true", help="a twentieth; writes no result")
    options = parser.parse_args(arguments)
    where = machine.describe()
    report = {
        "machine": asdict(where),
        "method": "bench/README.md",
        **uvloop.run(measure(options.small)),
    }
    text = json.dumps(report, indent=2)
    if not options.small:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / FILE).write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
