"""What ten times the clients leave of the good answers: they come at once and obey Retry-After.

python -m bench.overload
python -m bench.overload --clients 64 --times 10 --seconds 10
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench import cores, machine, stack
from bench.run import PRICES

MODEL, UPSTREAM_MODEL = "bench/overload", "mock/ok?in=200&out=80&bytes=1000"
WARM_UP_S = 2.0
MORE_THAN_CAN_BE_ANSWERED = 10_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """What so many clients got."""

    clients: int
    good_per_second: float
    told_to_wait: int
    errors: dict[str, int]
    p50_ms: float
    p99_ms: float


def measure(running: stack.Stack, clients: int, seconds: float) -> Row:
    """By a generator of its own process, on the cores that the gateway does not have."""
    command = [sys.executable, "-m", "bench.load", "--url", running.door_url, "--key", running.key]
    command += ["--model", MODEL, "--connections", str(clients), "--wait-when-told", "--json"]
    command += ["--seconds", str(seconds), "--requests", str(MORE_THAN_CAN_BE_ANSWERED)]
    done = subprocess.run(command, cwd=machine.REPOSITORY, capture_output=True, check=False)
    got: dict[str, Any] = json.loads(done.stdout)
    latency = got["latency_ms"]
    return Row(
        clients,
        got["requests_per_second"],
        got["retried"],
        got["errors"],
        latency["p50"],
        latency["p99"],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--clients", type=int, default=64, help="enough for the peak")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    where, places = machine.describe(), cores.layout()
    with stack.started(1, 1) as running:
        stack.serve_provider(running)
        stack.serve_model(running, MODEL, UPSTREAM_MODEL, PRICES)
        workers = [pid for pid, part in machine.processes(running.pid).items() if part == "gateway"]
        cores.pin(workers, places.gateway)
        measure(running, options.clients, WARM_UP_S)
        peak = measure(running, options.clients, options.seconds)
        many = measure(running, options.clients * options.times, options.seconds)
    kept = many.good_per_second / peak.good_per_second
    if options.json:
        rows = [asdict(peak), asdict(many)]
        print(json.dumps({"machine": asdict(where), "kept": round(kept, 3), "rows": rows}))
    else:
        for row in (peak, many):
            print(" ".join(f"{name} {value};" for name, value in asdict(row).items()))
        print(f"goodput kept: {kept:.1%}")
        print(" ".join(f"{name} {value};" for name, value in asdict(where).items()))
    return 0 if kept > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
