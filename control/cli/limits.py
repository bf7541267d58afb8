"""`opscenter limit`: limits of keys, people, teams, organisations, plans and end users."""

from collections.abc import Mapping
from typing import Annotated

import typer

from control.cli import given
from control.cli.client import Answer, Api, api, part
from control.cli.lookup import here_id, team, user
from control.cli.output import Json, Misused, say, show_json, show_page, show_rows, show_table

app = typer.Typer(
    no_args_is_help=True, help="Limits: calls, tokens, credits and requests at one time."
)

ORGANISATIONS = "/api/v1/admin/organisations"
PLANS = "/api/v1/admin/plans"
COLUMNS = {
    "id": "id",
    "of": "of",
    "limit": "limit",
    "per": "per",
    "used": "used",
    "model": "model",
    "warn at": "warn_at",
    "platform's": "by_platform",
    "created": "created_at",
}
EVENTS = {
    "id": "id",
    "at": "at",
    "limit": "limit",
    "of": "of",
    "end user": "end_user",
    "unit": "unit",
    "percent": "percent",
    "used": "used",
    "amount": "amount",
}

Organisation = Annotated[
    str | None, typer.Option("--organisation", "--org", help="Name or id; without it, your own.")
]
Plan = Annotated[str | None, typer.Option(help="The limits of this plan.")]
Which = Annotated[int, typer.Argument(help="The limit's id, as in the list.")]
Key = Annotated[str | None, typer.Option(help="Of this API key.")]
ForUser = Annotated[str | None, typer.Option("--user", help="Of this person (e-mail or id).")]
Team = Annotated[str | None, typer.Option(help="Of this team (name or id).")]
EndUsers = Annotated[bool, typer.Option("--end-users", help="Of each end user (`user` field).")]
Requests = Annotated[str | None, typer.Option(help="So many requests.")]
Tokens = Annotated[str | None, typer.Option(help="So many tokens.")]
Credits = Annotated[str | None, typer.Option(help="So many credits.")]
Parallel = Annotated[str | None, typer.Option(help="So many requests at one time.")]
Per = Annotated[
    str | None,
    typer.Option(help="In any such span (60s, 1h) or each day, week or month; else for ever."),
]
Zone = Annotated[
    str | None, typer.Option(help="Whose day, week or month: Europe/Berlin; else UTC.")
]
Anchor = Annotated[
    int | None, typer.Option(help="It begins on this day: of a week 1 to 7, of a month 1 to 31.")
]
Model = Annotated[str | None, typer.Option(help="Counts only what is asked of this model.")]
WarnAt = Annotated[
    str | None, typer.Option(help="Raise an event at these percents, by commas, or `none`.")
]


@app.command(
    epilog="Example: opscenter limit add --org Acme --key 4rT0pQ2xYz --requests 60 --per 60s\n\n"
    "Example: opscenter limit add --org Acme --user ann@example.com --credits 250 --per month "
    "--zone Europe/Berlin --warn-at 80,95"
)
def add(
    organisation: Organisation = None,
    plan: Plan = None,
    key: Key = None,
    for_user: ForUser = None,
    team: Team = None,
    end_users: EndUsers = False,
    requests: Requests = None,
    tokens: Tokens = None,
    credits: Credits = None,
    parallel: Parallel = None,
    per: Per = None,
    zone: Zone = None,
    anchor: Anchor = None,
    model: Model = None,
    warn_at: WarnAt = None,
    json: Json = False,
) -> None:
    """Set a further limit, for the next request: of a key, a person, a team, each end user or a
    plan; without any of them, of the whole organisation."""
    amounts = {"calls": requests, "tokens": tokens, "credits": credits, "parallel": parallel}
    wanted = {**terms(amounts, per, zone, anchor, warn_at), "model": model}
    here, within = api(), None
    if plan is None:
        within = here_id(here, organisation)
        wanted |= _subject(here, within, key, for_user, team, end_users)
    elif key or for_user or team or end_users or organisation:
        raise Misused("A plan's limit is of the plan alone.")
    _show(here.post(_path(within, plan), wanted), json)


@app.command("list", epilog="Example: opscenter limit list --org Acme --level team")
def list_(
    organisation: Organisation = None,
    plan: Plan = None,
    level: Annotated[
        str | None, typer.Option(help="key, person, team, organisation, end_user or plan.")
    ] = None,
    subject: Annotated[str | None, typer.Option(help="Id of the key, person or team.")] = None,
    json: Json = False,
) -> None:
    """List the limits of an organisation, with those of its plan, or of a plan."""
    here = api()
    if plan is None:
        path = _path(here_id(here, organisation), None)
        found = list(here.pages(path, level=level, subject=subject))
    else:
        found = here.get(_path(None, plan))["data"]
    if json:
        show_json({"data": found})
        return
    show_table(map(row, found), COLUMNS, "There is no limit; add one with `opscenter limit add`.")


@app.command(epilog="Example: opscenter limit edit 12 --amount 120 --warn-at 80,95")
def edit(
    limit: Which,
    amount: Annotated[str | None, typer.Option(help="The new amount, in its unit.")] = None,
    warn_at: WarnAt = None,
    organisation: Organisation = None,
    plan: Plan = None,
    json: Json = False,
) -> None:
    """Change how much a limit allows, for the next request; what was counted stays counted."""
    here = api()
    path = _path(None if plan else here_id(here, organisation), plan)
    wanted: dict[str, object] = {}
    if amount is not None:
        wanted["amount"] = _amount(_unit(here, path, limit), amount)
    if warn_at is not None:
        wanted["warn_at"] = given.percents(warn_at)
    if not wanted:
        raise Misused("Say what to change, such as --amount 120.")
    _show(here.patch(f"{path}/{limit}", wanted), json)


@app.command(epilog="Example: opscenter limit remove 12 --org Acme")
def remove(
    limit: Which, organisation: Organisation = None, plan: Plan = None, json: Json = False
) -> None:
    """Take a limit away, from the next request on."""
    here = api()
    path = _path(None if plan else here_id(here, organisation), plan)
    done = here.delete(f"{path}/{limit}")
    show_json(done) if json else say(f"Limit {limit} is removed.")


@app.command(epilog="Example: opscenter limit events --org Acme")
def events(
    organisation: Organisation = None,
    cursor: Annotated[str | None, typer.Option(help="Where the last page ended.")] = None,
    json: Json = False,
) -> None:
    """List when use came near a limit (--warn-at), newest first."""
    here = api()
    page = here.get(f"{ORGANISATIONS}/{here_id(here, organisation)}/limit-events", cursor=cursor)
    if not json:
        page = {**page, "data": [{**one, "of": _of(one)} for one in page["data"]]}
    show_page(page, json, EVENTS, "No limit was near yet.")


# What they share ----------------------------------------------------------------------


def terms(
    amounts: Mapping[str, str | None],
    per: str | None,
    zone: str | None = None,
    anchor: int | None = None,
    warn_at: str | None = None,
) -> dict[str, object]:
    """One limit as the API takes it."""
    named = {unit: text for unit, text in amounts.items() if text is not None}
    if len(named) != 1:
        raise Misused("Say how much of one thing: --requests, --tokens, --credits or --parallel.")
    (unit, text), *_ = named.items()
    wanted = {"unit": unit, "amount": _amount(unit, text), **given.window(per)}
    wanted |= {"zone": zone, "anchor": anchor}
    if warn_at is not None:
        wanted["warn_at"] = given.percents(warn_at)
    return wanted


def row(found: Answer) -> dict[str, object]:
    """As people read it."""
    return {
        **found,
        "of": _of(found),
        "limit": f"{found['amount']} {found['unit']}",
        "per": given.window_text(found),
        "warn_at": ", ".join(f"{percent}%" for percent in found["warn_at"]),
    }


def _of(found: Answer) -> str:
    return f"{found['level'] or '?'} {found['subject'] or ''}".strip()


def _amount(unit: str, text: str) -> object:
    if unit == "credits":
        return text
    amount = given.whole(text)
    if amount is None:
        raise Misused("Take a limit away with `opscenter limit remove`.")
    return amount


def _subject(
    here: Api,
    within: str,
    key: str | None,
    for_user: str | None,
    named: str | None,
    end_users: bool,
) -> dict[str, object]:
    chosen = [one for one in (key, for_user, named, end_users) if one]
    if len(chosen) > 1:
        raise Misused("A limit has one subject: --key, --user, --team or --end-users.")
    if key is not None:
        return {"level": "key", "subject": key}
    if for_user is not None:
        return {"level": "person", "subject": user(here, for_user)["id"]}
    if named is not None:
        return {"level": "team", "subject": team(here, within, named)}
    return {"level": "end_user" if end_users else "organisation"}


def _path(within: str | None, plan: str | None) -> str:
    if plan is not None:
        return f"{PLANS}/{part(plan)}/limits"
    return f"{ORGANISATIONS}/{within}/limits"


def _unit(here: Api, path: str, limit: int) -> str:
    for one in here.pages(path):
        if one["id"] == limit:
            return str(one["unit"])
    raise Misused(f"There is no limit {limit} here; see `opscenter limit list`.")


def _show(found: Answer, as_json: bool) -> None:
    columns = {heading: field for heading, field in COLUMNS.items() if heading != "used"}
    show_json(found) if as_json else show_rows(row(found), columns)
