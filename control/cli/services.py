"""`opscenter service`: accounts of programs."""

from typing import Annotated

import typer

from control.cli.client import api
from control.cli.output import Json, show_json, show_once, show_rows

app = typer.Typer(no_args_is_help=True, help="Accounts of programs, which call by X-Service-Key.")

COLUMNS = {
    "organisation": "organisation",
    "user": "email",
    "role": "role",
    "key": "key_id",
}


@app.command(epilog="Example: opscenter service create company-enrichment")
def create(
    name: Annotated[str, typer.Argument(help="Small letters, digits, - and _.")],
    role: Annotated[
        str, typer.Option(help="On the control API: viewer, analyst or developer.")
    ] = "viewer",
    json: Json = False,
) -> None:
    """Make a program's account with an organisation of its own and a key, shown this once.

    Give it credits with `opscenter credits grant NAME`, limit its keys with
    `opscenter key edit --user NAME@service`.
    """
    made = api().post("/api/v1/admin/services", {"name": name, "role": role})
    if json:
        show_json(made)
        return
    show_rows(made, COLUMNS)
    show_once("The API key", made["key"])
