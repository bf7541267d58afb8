"""`opscenter credits`: given, left, moved. 1 credit is $0.001; six decimals are exact."""

from typing import Annotated

import typer

from control.cli.client import Api, api
from control.cli.lookup import organisation_id, some_organisation, user
from control.cli.output import Json, show_json, show_page, show_rows

app = typer.Typer(no_args_is_help=True, help="Credits: 1 credit = $0.001, exact to 6 decimals.")

TRANSACTIONS = {
    "time": "at",
    "type": "type",
    "pool": "pool",
    "amount": "amount",
    "model": "model",
    "provider": "provider",
    "tokens": "tokens",
    "key": "key",
    "ref": "ref",
}

BALANCE = {
    "remaining": "remaining",
    "allocated": "allocated",
    "allocation": "allocation",
    "allocation used": "allocation_used",
    "own": "own",
    "tier": "tier",
}

Organisation = Annotated[
    str | None, typer.Option("--org", help="Name or id; without it, your own.")
]
Reason = Annotated[str, typer.Option(help="Why; it goes on the audit log.")]
Ref = Annotated[str | None, typer.Option(help="The cause, booked at most once (an order number).")]
Amount = Annotated[str, typer.Argument(help="Credits, at most 6 decimals.")]


@app.command(
    epilog='Example: opscenter credits grant Acme 2500.5 --reason "trial extended"\n\n'
    'Example: opscenter credits grant Acme 5 --member ann@example.com --reason "a gift"'
)
def grant(
    organisation: Annotated[str, typer.Argument(help="Name or id.")],
    amount: Amount,
    reason: Reason,
    member: Annotated[
        str | None, typer.Option(help="E-mail or id: they are this member's own.")
    ] = None,
    ref: Ref = None,
    json: Json = False,
) -> None:
    """Give credits to an organisation, or to a member of it."""
    here = api()
    path = f"/api/v1/admin/organisations/{some_organisation(here, organisation)}/credits"
    whose = user(here, member)["id"] if member else None
    made = here.post(path, {"amount": amount, "reason": reason, "ref": ref, "user": whose})
    if json:
        show_json(made)
    else:
        show_rows(made, {"amount": "amount", "balance": "balance", "ref": "ref"})


@app.command(
    epilog='Example: opscenter credits move 10 --from Acme --to Beta --reason "one contract"\n\n'
    "Example: opscenter credits move 10 --from Acme --to Acme --to-member ann@example.com "
    '--reason "a prize"'
)
def move(
    amount: Amount,
    source: Annotated[str, typer.Option("--from", help="Organisation, by name or id.")],
    target: Annotated[str, typer.Option("--to", help="Organisation, by name or id.")],
    reason: Reason,
    source_member: Annotated[
        str | None, typer.Option("--from-member", help="E-mail or id: what he has of his own.")
    ] = None,
    target_member: Annotated[
        str | None, typer.Option("--to-member", help="E-mail or id: they become his own.")
    ] = None,
    ref: Ref = None,
    json: Json = False,
) -> None:
    """Move credits between organisations, or between one and its members' own."""
    here = api()
    wanted = {
        "source": _place(here, source, source_member),
        "target": _place(here, target, target_member),
        "amount": amount,
        "reason": reason,
        "ref": ref,
    }
    made = here.post("/api/v1/admin/credits/moves", wanted)
    if json:
        show_json(made)
        return
    left = {"source left": made["source"]["balance"], "target left": made["target"]["balance"]}
    shown = {name: name for name in ("amount", *left, "ref")}
    show_rows({**made, **left}, shown)


@app.command(epilog="Example: opscenter credits balance --org Acme --member ann@example.com")
def balance(
    organisation: Organisation = None,
    member: Annotated[str | None, typer.Option(help="E-mail or id; else yourself.")] = None,
    json: Json = False,
) -> None:
    """Show what is left, of the organisation and of a member, as the ledger has it."""
    here = api()
    within = organisation_id(here, organisation)
    whose = user(here, member)["id"] if member else None
    found = here.get("/api/v1/credits/balance", organisation=within, user=whose)
    if json:
        show_json(found)
    else:
        show_rows(found, BALANCE)


@app.command(epilog="Example: opscenter credits transactions --org Acme --limit 100")
def transactions(
    organisation: Organisation = None,
    member: Annotated[str | None, typer.Option(help="Only of this one: e-mail or id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Rows of a page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the last page ended.")] = None,
    json: Json = False,
) -> None:
    """List every movement of credits, newest first."""
    here = api()
    page = here.get(
        "/api/v1/credits/transactions",
        organisation=organisation_id(here, organisation),
        user=user(here, member)["id"] if member else None,
        limit=limit,
        cursor=cursor,
    )
    show_page(page, json, TRANSACTIONS, "No credits have moved yet.")


def _place(here: Api, organisation: str, member: str | None) -> dict[str, object]:
    whose = user(here, member)["id"] if member else None
    return {"organisation": some_organisation(here, organisation), "user": whose}
