"""Soft limits: an event for each threshold that use has crossed, once in each window, in the
transaction that books the use.
"""

import re
from collections.abc import Iterable, Mapping

from control import sql
from control.database import Connection

_rule = re.compile(r":l([1-9][0-9]{0,17})$").search


async def warn(
    conn: Connection,
    used: Iterable[tuple[int, str, str, int, int]],
    end_users: Mapping[str, str],
) -> None:
    """`used` as of meter_use: shard, owner, unit, window and by how much it changed just now;
    `end_users` names those that owners are of.
    """
    rows = [
        (shard, owner, window, int(rule[1]), end_users.get(owner))
        for shard, owner, _, window, delta in used
        if delta > 0 and (rule := _rule(owner))
    ]
    if rows:
        columns = map(list, zip(*rows, strict=True))
        await conn.execute(sql.load()["limit_event_add"], *columns)
