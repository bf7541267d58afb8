"""`opscenter user`: people and their roles."""

from enum import StrEnum
from typing import Annotated

import typer

from control.cli import given
from control.cli.client import Answer, api
from control.cli.lookup import organisation_id, user
from control.cli.output import Json, show_json, show_once, show_rows, show_table

app = typer.Typer(no_args_is_help=True, help="People, their roles and their sign-in.")

PATH = "/api/v1/admin/users"
COLUMNS = {
    "id": "id",
    "email": "email",
    "name": "name",
    "status": "status",
    "roles": "roles",
    "allocations": "allocations",
    "created": "created_at",
}


class Role(StrEnum):
    """Each includes the ones after it."""

    ADMIN = "admin"
    MODERATOR = "moderator"
    DEVELOPER = "developer"
    ANALYST = "analyst"
    VIEWER = "viewer"


Who = Annotated[str, typer.Argument(help="E-mail or id.")]
Organisation = Annotated[
    str | None, typer.Option("--org", help="Name or id; without it, your own.")
]


@app.command("list", epilog="Example: opscenter user list --org Acme")
def list_(
    organisation: Organisation = None,
    search: Annotated[str | None, typer.Option(help="Part of an e-mail or a name.")] = None,
    json: Json = False,
) -> None:
    """List people with their roles."""
    here = api()
    within = organisation_id(here, organisation)
    rows = list(here.pages(PATH, organisation=within, search=search))
    if json:
        show_json({"data": rows})
        return
    show_table((_row(one) for one in rows), COLUMNS, "Nobody is here yet.")


@app.command(epilog="Example: opscenter user create ann@example.com --role developer --org Acme")
def create(
    email: Annotated[str, typer.Argument(help="The e-mail to sign in with.")],
    role: Annotated[Role, typer.Option(help="What the person may do.")] = Role.DEVELOPER,
    organisation: Organisation = None,
    name: Annotated[str | None, typer.Option(help="The person's name.")] = None,
    password: Annotated[bool, typer.Option(help="Generate a password to sign in with.")] = True,
    json: Json = False,
) -> None:
    """Make a person, or let one who has an account join an organisation.

    A generated password is shown this once.
    """
    here = api()
    wanted = {
        "email": email,
        "role": role.value,
        "organisation": organisation_id(here, organisation),
        "name": name,
        "password": password,
    }
    _show(here.post(PATH, wanted), json)


@app.command(epilog="Example: opscenter user role ann@example.com moderator --org Acme")
def role(
    who: Who,
    role: Annotated[Role, typer.Argument(help="The new role.")],
    organisation: Organisation = None,
    json: Json = False,
) -> None:
    """Give a person another role in an organisation, from the next request on."""
    here = api()
    wanted = {"role": role.value, "organisation": organisation_id(here, organisation)}
    _show(here.put(f"{PATH}/{user(here, who)['id']}/role", wanted), json)


@app.command(epilog="Example: opscenter user allocation ann@example.com 250 --org Acme")
def allocation(
    who: Who,
    amount: Annotated[str, typer.Argument(help="Credits in all, or `none`.")],
    organisation: Organisation = None,
    json: Json = False,
) -> None:
    """Set what a member may spend of the organisation's credits, from the next request on."""
    here = api()
    within = organisation_id(here, organisation)
    wanted = {"allocation": given.credits(amount), "organisation": within}
    _show(here.put(f"{PATH}/{user(here, who)['id']}/allocation", wanted), json)


@app.command(epilog="Example: opscenter user suspend ann@example.com")
def suspend(who: Who, json: Json = False) -> None:
    """End a person's sign-ins and refuse all of the person's API keys, at once."""
    here = api()
    _show(here.post(f"{PATH}/{user(here, who)['id']}/suspend"), json)


@app.command(epilog="Example: opscenter user resume ann@example.com")
def resume(who: Who, json: Json = False) -> None:
    """Let a suspended person in again."""
    here = api()
    _show(here.post(f"{PATH}/{user(here, who)['id']}/resume"), json)


@app.command(epilog="Example: opscenter user password ann@example.com")
def password(who: Who, json: Json = False) -> None:
    """Generate a new password, shown this once, and end the person's sign-ins."""
    here = api()
    _show(here.post(f"{PATH}/{user(here, who)['id']}/password"), json)


@app.command(epilog="Example: opscenter user unlink ann@example.com")
def unlink(who: Who, json: Json = False) -> None:
    """Forget which account of the identity provider is a person's, and end the sign-ins; the next
    one that shows the person's e-mail is taken for it."""
    here = api()
    found = here.post(f"{PATH}/{user(here, who)['id']}/unlink")
    show_json(found) if json else show_rows(found, {"id": "user", "unlinked": "removed"})


def _row(found: Answer) -> dict[str, object]:
    roles = [f"{one['role']} in {one['name']}" for one in found["memberships"]]
    limited = [one for one in found["memberships"] if one["allocation"] is not None]
    allocations = [f"{one['allocation']} in {one['name']}" for one in limited]
    return {**found, "roles": roles, "allocations": allocations}


def _show(found: Answer, as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    show_rows(_row(found), COLUMNS)
    if found.get("password"):
        show_once("The password", found["password"])
