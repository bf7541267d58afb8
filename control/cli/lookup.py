"""Names that people use -> ids that the API uses: an e-mail, an organisation's name."""

import uuid

from control.cli.client import Answer, Api
from control.cli.output import Failed, Misused


def organisation_id(api: Api, named: str | None) -> str | None:
    """By id or name; None stays None, which is the caller's own."""
    if named is None or _is_id(named):
        return named
    found = [
        one["id"]
        for one in api.pages("/api/v1/admin/organisations")
        if one["name"].casefold() == named.casefold()
    ]
    if not found:
        raise Failed(f"There is no organisation {named} here; see `opscenter org list`.")
    if len(found) > 1:
        raise Misused(f"{len(found)} organisations are called {named}; name one by its id.")
    return str(found[0])


def some_organisation(api: Api, named: str) -> str:
    found = organisation_id(api, named)
    assert found is not None
    return found


def here_id(api: Api, named: str | None) -> str:
    """By id or name; without one it is the organisation that the caller acts in."""
    return organisation_id(api, named) or str(api.get("/api/v1/auth/me")["organisation"])


def team(api: Api, organisation: str, named: str) -> str:
    """By id or name."""
    if _is_id(named):
        return named
    for one in api.pages(f"/api/v1/admin/organisations/{organisation}/teams"):
        if one["name"].casefold() == named.casefold():
            return str(one["id"])
    raise Failed(f"There is no team {named} here; see `opscenter team list`.")


def user(api: Api, named: str) -> Answer:
    """By id or e-mail."""
    if _is_id(named):
        return api.get(f"/api/v1/admin/users/{named}")
    for one in api.pages("/api/v1/admin/users", search=named):
        if one["email"] == named.lower():
            return one
    raise Failed(f"There is no user {named} here; see `opscenter user list`.")


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
