"""What a worker remembers of settlements that it has sent."""

from pathlib import Path
from typing import Any, cast

from proxy.machine.journal import Admitted, Journal, Used
from proxy.metrics import in_memory
from proxy.settle import LOOKED_AT_ONCE, Settler

LONG_AGO = -1e9
ADMITTED = Admitted(1, "owner", "pool", "", 1, b"{}")


class Shards:
    """With room for nothing, so that whoever waits goes on waiting."""

    async def waiting(self, shard: int) -> int:
        return 10**9


async def test_what_the_journal_does_not_know_is_forgotten(tmp_path: Path) -> None:
    """A hold that was given back before it was written down cannot be sent again; remembered, many
    of them would stand before those that can.
    """
    journal = Journal(tmp_path)
    settler = Settler(cast(Any, Shards()), in_memory(), journal)
    journal.admitted("known", ADMITTED)
    journal.used("known", Used("settled", 1, 1, b"{}"))
    lost = [f"lost-{nth}" for nth in range(LOOKED_AT_ONCE)]
    settler._sent_at = dict.fromkeys([*lost, "known"], LONG_AGO)
    await settler._redrive()
    assert list(settler._sent_at) == ["known"]
    journal.close()
