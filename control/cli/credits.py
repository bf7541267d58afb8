"""`opscenter credits`: given, left, moved. 1 credit is $0.001; six decimals are exact."""

from typing import Annotated

import typer

from control.cli.client import Answer, Api, api
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
    wanted = {"amount": amount, "reason": reason, "ref": ref, "user": whose}
    _show_given(here.post(path, wanted), json)


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


@app.command(
    epilog='Example: opscenter credits adjust Acme --amount -5 --reason "counted twice"\n\n'
    'Example: opscenter credits adjust Acme --amount -250 --expiry --reason "trial ended"'
)
def adjust(
    organisation: Annotated[str, typer.Argument(help="Name or id.")],
    amount: Annotated[str, typer.Option(help="Credits; with a minus they are taken.")],
    reason: Reason,
    expiry: Annotated[bool, typer.Option("--expiry", help="They are taken as expired.")] = False,
    member: Annotated[str | None, typer.Option(help="E-mail or id: of this one's own.")] = None,
    ref: Ref = None,
    json: Json = False,
) -> None:
    """Add or take credits; of those that running requests hold none can be taken."""
    here = api()
    path = f"/api/v1/admin/organisations/{some_organisation(here, organisation)}/credits"
    wanted: dict[str, object] = {"amount": amount, "reason": reason, "ref": ref}
    wanted |= {"kind": "expiry" if expiry else "adjustment"}
    wanted |= {"user": user(here, member)["id"] if member else None}
    _show_given(here.post(path + "/adjustments", wanted), json)


@app.command(epilog='Example: opscenter credits refund 0193a1b2-... --reason "bad answer"')
def refund(
    request: Annotated[str, typer.Argument(help="The request's id, as in `opscenter usage`.")],
    reason: Reason,
    amount: Annotated[str | None, typer.Option(help="A part of its cost; else all.")] = None,
    json: Json = False,
) -> None:
    """Give back what a request has cost to the credits that paid it, once."""
    wanted = {"request": request, "amount": amount, "reason": reason}
    _show_given(api().post("/api/v1/admin/credits/refunds", wanted), json)


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


def _show_given(made: Answer, as_json: bool) -> None:
    columns = {name: name for name in ("amount", "balance", "ref")}
    show_json(made) if as_json else show_rows(made, columns)


def _place(here: Api, organisation: str, member: str | None) -> dict[str, object]:
    whose = user(here, member)["id"] if member else None
    return {"organisation": some_organisation(here, organisation), "user": whose}
