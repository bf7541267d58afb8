"""`opscenter ledger`: the proof that all money is accounted for."""

import typer

from control.cli.client import api
from control.cli.output import Json, complain, say, show_json, text_of

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
        for name, value in report.items():
            say(f"{name}: {text_of(value)}")
    if not report["ok"]:
        if not json:
            complain("The books do not agree. Keep all data and look at the lines above.")
        raise typer.Exit(1)
