"""`opscenter key`: API keys."""

from typing import Annotated

import typer

from control.cli import given, limits
from control.cli.client import Answer, Api, api, part
from control.cli.lookup import organisation_id, user
from control.cli.output import Json, Misused, show_json, show_once, show_page, show_rows

app = typer.Typer(
    no_args_is_help=True, help="API keys: made and shown once, limited, rotated, revoked."
)

COLUMNS = {
    "id": "id",
    "key": "key",
    "name": "name",
    "status": "status",
    "models": "models",
    "parallel": "parallel_max",
    "budget": "budget",
    "expires": "expires_at",
    "last used": "last_used_at",
    "created": "created_at",
}
ALL = {
    **COLUMNS,
    "scopes": "scopes",
    "routes": "routes",
    "addresses": "addresses",
    "budget used": "budget_used",
    "pay": "pay",
    "tags": "tags",
    "rotated": "rotated_at",
    "old until": "old_key_until",
    "limits": "limits",
}

Which = Annotated[str, typer.Argument(help="The key's id, as in the list.")]
ForUser = Annotated[str | None, typer.Option("--user", help="E-mail or id; without it, yourself.")]
Expires = Annotated[
    str | None, typer.Option(help="Ends after a span (30d, 24h) or at a date (2031-01-31).")
]
Models = Annotated[
    list[str] | None,
    typer.Option("--models", "--model", help="May use these (by commas); openai/* is all such."),
]
Routes = Annotated[
    list[str] | None, typer.Option(help="May call these paths (by commas), such as /v1/chat/*.")
]
Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", help="May do these things alone (by commas), such as llm,usage:read."),
]
AllowIp = Annotated[
    list[str] | None, typer.Option(help="May be used from these addresses, such as 10.0.0.0/8.")
]
Parallel = Annotated[str | None, typer.Option(help="Requests at one time.")]
Budget = Annotated[str | None, typer.Option(help="Credits that it may spend in all.")]
Pay = Annotated[
    list[str] | None,
    typer.Option(help="Who pays, in this order (by commas): organisation, own."),
]
Tag = Annotated[list[str] | None, typer.Option(help="NAME=VALUE, to find it by; repeat it.")]


@app.command(
    epilog="Example: opscenter key create my-app\n\n"
    "Example: opscenter key create --name ci --expires 30d --models 'openai/*' --budget 250 "
    "--budget-per month --rpm 60 --allow-ip 10.0.0.0/8 --user ann@example.com"
)
def create(
    word: Annotated[str | None, typer.Argument(metavar="NAME", help="What it is for.")] = None,
    name: Annotated[str | None, typer.Option(help="The same, as an option.")] = None,
    expires: Expires = None,
    models: Models = None,
    routes: Routes = None,
    scope: Scopes = None,
    allow_ip: AllowIp = None,
    parallel: Parallel = None,
    budget: Budget = None,
    pay: Pay = None,
    rpm: Annotated[str | None, typer.Option(help="Requests in any minute.")] = None,
    tpm: Annotated[str | None, typer.Option(help="Tokens in any minute.")] = None,
    budget_per: Annotated[
        str | None, typer.Option(help="The budget is anew each day, week or month.")
    ] = None,
    tag: Tag = None,
    for_user: ForUser = None,
    organisation: Annotated[
        str | None, typer.Option("--org", help="With --user: in which organisation.")
    ] = None,
    json: Json = False,
) -> None:
    """Make an API key. It is shown this once; apps send it as `Authorization: Bearer`."""
    if (word is None) == (name is None):
        raise Misused("Say once what the key is for: opscenter key create my-app.")
    here = api()
    in_all = budget if budget_per is None else None
    wanted = _terms(expires, models, routes, scope, allow_ip, parallel, in_all, pay, tag)
    wanted |= {"name": word or name, "limits": _limits(rpm, tpm, budget, budget_per)}
    if organisation is not None:
        if for_user is None:
            raise Misused("--org goes with --user; your own keys are in your own organisation.")
        wanted["organisation"] = organisation_id(here, organisation)
    _show_made(here.post(_path(here, for_user), wanted), json)


@app.command("list", epilog="Example: opscenter key list --user ann@example.com")
def list_(
    for_user: ForUser = None,
    cursor: Annotated[str | None, typer.Option(help="Where the last page ended.")] = None,
    json: Json = False,
) -> None:
    """List API keys, masked."""
    here = api()
    page = here.get(_path(here, for_user), cursor=cursor)
    show_page(page, json, COLUMNS, "There is no key yet; make one with `opscenter key create`.")


@app.command(epilog="Example: opscenter key show 4rT0pQ2xYz")
def show(key: Which, for_user: ForUser = None, json: Json = False) -> None:
    """Show one API key, masked, with its limits and what it has used."""
    here = api()
    _show(here.get(_one(here, for_user, key)), json)


@app.command(
    epilog="Example: opscenter key edit 4rT0pQ2xYz --budget 500 --models 'openai/*,ops/echo'\n\n"
    "Example: opscenter key edit 4rT0pQ2xYz --expires none --allow-ip none"
)
def edit(
    key: Which,
    name: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    expires: Expires = None,
    models: Models = None,
    routes: Routes = None,
    scope: Scopes = None,
    allow_ip: AllowIp = None,
    parallel: Parallel = None,
    budget: Budget = None,
    pay: Pay = None,
    tag: Tag = None,
    for_user: ForUser = None,
    json: Json = False,
) -> None:
    """Change the limits that are named, for the next request; `none` takes one away."""
    wanted = _terms(expires, models, routes, scope, allow_ip, parallel, budget, pay, tag)
    if name is not None:
        wanted["name"] = name
    if not wanted:
        raise Misused("Say what to change, such as --budget 500.")
    here = api()
    _show(here.patch(_one(here, for_user, key), wanted), json)


@app.command(epilog="Example: opscenter key block 4rT0pQ2xYz")
def block(key: Which, for_user: ForUser = None, json: Json = False) -> None:
    """Refuse an API key from the next request on, until it is let in again."""
    here = api()
    _show(here.post(_one(here, for_user, key) + "/block"), json)


@app.command(epilog="Example: opscenter key unblock 4rT0pQ2xYz")
def unblock(key: Which, for_user: ForUser = None, json: Json = False) -> None:
    """Let a blocked API key in again."""
    here = api()
    _show(here.post(_one(here, for_user, key) + "/unblock"), json)


@app.command(epilog="Example: opscenter key rotate 4rT0pQ2xYz --overlap 24h")
def rotate(
    key: Which,
    overlap: Annotated[str, typer.Option(help="How long the old secret is good; 0: no more.")] = (
        "24h"
    ),
    for_user: ForUser = None,
    json: Json = False,
) -> None:
    """Give an API key a new secret, shown this once; limits and use stay the key's."""
    wanted = {"overlap_s": given.span_s(overlap)}
    here = api()
    _show_made(here.post(_one(here, for_user, key) + "/rotate", wanted), json)


@app.command(epilog="Example: opscenter key revoke 4rT0pQ2xYz")
def revoke(key: Which, for_user: ForUser = None, json: Json = False) -> None:
    """Revoke an API key: when this returns, no request is admitted with it any more."""
    here = api()
    _show(here.delete(_one(here, for_user, key)), json)


def _terms(
    expires: str | None,
    models: list[str] | None,
    routes: list[str] | None,
    scope: list[str] | None,
    allow_ip: list[str] | None,
    parallel: str | None,
    budget: str | None,
    pay: list[str] | None,
    tag: list[str] | None,
) -> dict[str, object]:
    """The limits that were named, as the API takes them."""
    lists = {"models": models, "routes": routes, "scopes": scope, "addresses": allow_ip, "pay": pay}
    terms: dict[str, object] = {
        name: given.several(words) for name, words in lists.items() if words
    }
    if expires is not None:
        terms["expires_at"] = given.moment(expires)
    if parallel is not None:
        terms["parallel_max"] = given.whole(parallel)
    if budget is not None:
        terms["budget"] = given.credits(budget)
    if tag:
        terms["tags"] = given.tags(tag)
    return terms


def _limits(
    rpm: str | None, tpm: str | None, budget: str | None, budget_per: str | None
) -> list[dict[str, object]]:
    """Those with a window; further ones are added with `opscenter limit add --key`."""
    found = [("calls", rpm, "60s"), ("tokens", tpm, "60s")]
    if budget_per is not None:
        if budget is None:
            raise Misused("--budget-per goes with --budget.")
        found.append(("credits", budget, budget_per))
    return [limits.terms({unit: text}, per) for unit, text, per in found if text is not None]


def _path(here: Api, for_user: str | None) -> str:
    if for_user is None:
        return "/api/v1/keys"
    return f"/api/v1/admin/users/{user(here, for_user)['id']}/api-keys"


def _one(here: Api, for_user: str | None, key: str) -> str:
    return f"{_path(here, for_user)}/{part(key)}"


def _show(found: Answer, as_json: bool) -> None:
    show_json(found) if as_json else show_rows(_row(found), ALL)


def _show_made(made: Answer, as_json: bool) -> None:
    if as_json:
        show_json(made)
        return
    show_rows(_row(made), {heading: field for heading, field in ALL.items() if heading != "key"})
    show_once("The API key", made["key"])


def _row(found: Answer) -> dict[str, object]:
    shown = map(limits.row, found["limits"])
    told = [" per ".join(filter(None, (str(one["limit"]), str(one["per"])))) for one in shown]
    return {**found, "limits": told}
