"""`opscenter ledger`: the proof that all money is accounted for."""

import typer

from control.cli.client import Answer, api
from control.cli.output import Json, complain, say, show_json

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


def _show(report: Answer) -> None:
    """A line per check, and below it what differs."""
    for check in report["checks"]:
        mark = "ok  " if check["ok"] else "FAIL"
        say(f"{mark} {check['name']} {check['title']}: {check['detail']}")
        for difference in check["differences"]:
            say(f"       {difference}")
