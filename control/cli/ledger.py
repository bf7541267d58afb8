"""`opscenter ledger`: the proof that all money is accounted for."""

import time
from typing import Annotated

import typer

from control.cli.client import Answer, api
from control.cli.output import Json, complain, say, show_json

REBUILD_WAIT_S, REBUILD_LOOK_S = 60.0, 0.1
FILLING = "/api/v1/admin/ledger/rebuild-redis"

app = typer.Typer(no_args_is_help=True, help="The ledger, to the micro-credit.")


@app.callback()
def noun() -> None:
    """The ledger, to the micro-credit."""


@app.command(epilog="Example: opscenter ledger verify --json")
def verify(json: Json = False) -> None:
    """Prove that Redis, the ledger and the usage agree; exit code 1 where they do not."""
    report = api().get("/api/v1/admin/ledger/verify")
    if json:
        show_json(report)
    else:
        _show(report)
    if not report["ok"]:
        if not json:
            complain("The books do not agree. Keep all data and look at the lines above.")
        raise typer.Exit(1)


@app.command(epilog="Example: opscenter ledger explain 01a1fb80-2687-7cbe-8122-511daddc8b89")
def explain(
    request: Annotated[str, typer.Argument(help="As x-ops-request-id told it.")],
    json: Json = False,
) -> None:
    """Tell the life of one request: what it held, how it ended, what it was charged and why."""
    life = api().get(f"/api/v1/admin/ledger/requests/{request}")
    if json:
        show_json(life)
        return
    for sentence in life["story"]:
        say(sentence)
    if not life["found"]:
        raise typer.Exit(1)


@app.command("rebuild-redis", epilog="Example: opscenter ledger rebuild-redis")
def rebuild_redis(json: Json = False) -> None:
    """Fill Redis anew from the ledger. A shard refuses requests with 503 while it is filled,
    mostly for some milliseconds; running requests end as usual."""
    began = time.monotonic()
    api().post(FILLING, {})
    while api().get(FILLING)["waiting"]:
        if time.monotonic() - began > REBUILD_WAIT_S:
            complain("It is not done yet. Look whether a drain runs: opscenter status")
            raise typer.Exit(1)
        time.sleep(REBUILD_LOOK_S)
    seconds = time.monotonic() - began
    if json:
        show_json({"seconds": round(seconds, 3)})
    else:
        say(f"filled in {seconds:.1f} s; `opscenter ledger verify` compares both sides")


def _show(report: Answer) -> None:
    """A line per check, and below it what differs."""
    for check in report["checks"]:
        mark = "ok  " if check["ok"] else "FAIL"
        say(f"{mark} {check['name']} {check['title']}: {check['detail']}")
        for difference in check["differences"]:
            say(f"       {difference}")
