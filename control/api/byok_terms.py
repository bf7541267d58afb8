"""Whether an organisation's plan includes keys of one's own, and who hears of a change of that."""

from collections.abc import Sequence
from uuid import UUID

from control import sql
from control.api.limit_acts import changes_of_people
from control.api.write import Change
from control.database import Connection
from control.errors import PlanLacks


async def require_included(conn: Connection, organisation: UUID) -> None:
    row = await conn.fetchrow(sql.load()["byok_included"], organisation)
    if row is not None and not row["included"]:
        raise PlanLacks(plan=row["plan"], feature="keys of your own (BYOK)")


async def changes_of_keys(conn: Connection, organisations: Sequence[UUID]) -> list[Change]:
    """What stands for those who have such keys, in these organisations."""
    changes: list[Change] = []
    for row in await conn.fetch(sql.load()["byok_owners"], list(organisations)):
        changes.append(Change("organisation", str(row["organisation"])))
        changes += await changes_of_people(conn, row["organisation"], row["people"])
    return changes
