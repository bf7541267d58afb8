"""`opscenter credits`: given, left, moved. 1 credit is $0.001; six decimals are exact."""

from typing import Annotated

import typer

from control.cli.client import api
from control.cli.lookup import organisation_id, some_organisation
from control.cli.output import Json, show_json, show_page, show_rows

app = typer.Typer(no_args_is_help=True, help="Credits: 1 credit = $0.001, exact to 6 decimals.")

TRANSACTIONS = {
    "time": "at",
    "type": "type",
    "amount": "amount",
    "model": "model",
    "provider": "provider",
    "tokens": "tokens",
    "key": "key",
    "ref": "ref",
}

Organisation = Annotated[
    str | None, typer.Option("--org", help="Name or id; without it, your own.")
]


@app.command(epilog='Example: opscenter credits grant Acme 2500.5 --reason "trial extended"')
def grant(
    organisation: Annotated[str, typer.Argument(help="Name or id.")],
    amount: Annotated[str, typer.Argument(help="Credits, at most 6 decimals.")],
    reason: Annotated[str, typer.Option(help="Why; it goes on the audit log.")],
    ref: Annotated[
        str | None, typer.Option(help="The cause, booked at most once (an order number).")
    ] = None,
    json: Json = False,
) -> None:
    """Give credits to an organisation."""
    here = api()
    path = f"/api/v1/admin/organisations/{some_organisation(here, organisation)}/credits"
    made = here.post(path, {"amount": amount, "reason": reason, "ref": ref})
    if json:
        show_json(made)
    else:
        show_rows(made, {"amount": "amount", "balance": "balance", "ref": "ref"})


@app.command(epilog="Example: opscenter credits balance --org Acme")
def balance(organisation: Organisation = None, json: Json = False) -> None:
    """Show what is left, as the ledger has it."""
    here = api()
    within = organisation_id(here, organisation)
    found = here.get("/api/v1/credits/balance", organisation=within)
    if json:
        show_json(found)
    else:
        show_rows(found, {"remaining": "remaining", "allocated": "allocated", "tier": "tier"})


@app.command(epilog="Example: opscenter credits transactions --org Acme --limit 100")
def transactions(
    organisation: Organisation = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Rows of a page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the last page ended.")] = None,
    json: Json = False,
) -> None:
    """List every movement of credits, newest first."""
    here = api()
    page = here.get(
        "/api/v1/credits/transactions",
        organisation=organisation_id(here, organisation),
        limit=limit,
        cursor=cursor,
    )
    show_page(page, json, TRANSACTIONS, "No credits have moved yet.")
