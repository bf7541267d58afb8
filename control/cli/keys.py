"""`opscenter key`: API keys."""

from typing import Annotated

import typer

from control.cli.client import Answer, Api, api, part
from control.cli.lookup import organisation_id, user
from control.cli.output import Json, Misused, show_json, show_once, show_page, show_rows

app = typer.Typer(no_args_is_help=True, help="API keys: made and shown once, listed, revoked.")

COLUMNS = {
    "id": "id",
    "key": "key",
    "name": "name",
    "status": "status",
    "models": "models",
    "parallel": "parallel_max",
    "expires": "expires_at",
    "created": "created_at",
}

ForUser = Annotated[str | None, typer.Option("--user", help="E-mail or id; without it, yourself.")]


@app.command(
    epilog="Example: opscenter key create my-app\n\n"
    "Example: opscenter key create ci --expires-days 30 --model ops/echo --user ann@example.com"
)
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    expires_days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="Ends after so many days.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model it may use; repeat it. Without: all.")
    ] = None,
    parallel_max: Annotated[
        int | None, typer.Option(min=1, help="Requests at one time; without it: no limit.")
    ] = None,
    for_user: ForUser = None,
    organisation: Annotated[
        str | None, typer.Option("--org", help="With --user: in which organisation.")
    ] = None,
    json: Json = False,
) -> None:
    """Make an API key. It is shown this once; apps send it as `Authorization: Bearer`."""
    here = api()
    wanted: dict[str, object] = {
        "name": name,
        "expires_at": _in_days(expires_days),
        "models": model or None,
        "parallel_max": parallel_max,
    }
    if organisation is not None:
        if for_user is None:
            raise Misused("--org goes with --user; your own keys are in your own organisation.")
        wanted["organisation"] = organisation_id(here, organisation)
    made = here.post(_path(here, for_user), wanted)
    if json:
        show_json(made)
        return
    show_rows(made, {heading: field for heading, field in COLUMNS.items() if heading != "key"})
    show_once("The API key", made["key"])


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


@app.command(epilog="Example: opscenter key revoke 4rT0pQ2xYz")
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id, as in the list.")],
    for_user: ForUser = None,
    json: Json = False,
) -> None:
    """Revoke an API key: when this returns, no request is admitted with it any more."""
    here = api()
    _show(here.delete(f"{_path(here, for_user)}/{part(key)}"), json)


def _path(here: Api, for_user: str | None) -> str:
    if for_user is None:
        return "/api/v1/keys"
    return f"/api/v1/admin/users/{user(here, for_user)['id']}/api-keys"


def _in_days(days: int | None) -> str | None:
    if days is None:
        return None
    from datetime import UTC, datetime, timedelta

    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


def _show(found: Answer, as_json: bool) -> None:
    show_json(found) if as_json else show_rows(found, COLUMNS)
