"""An heir settles what the dead left and the ledger has not: no more, and not all at once."""

import asyncio
from pathlib import Path

import orjson
import pytest

from proxy.machine import again
from proxy.machine import heir as heir_module
from proxy.machine.heir import Heir
from proxy.machine.journal import Admitted, Journal, Used
from proxy.redis.pipe import RedisDown
from proxy.redis.replies import Persisted
from proxy.redis.shards import Shards
from tests.test_journal import die

ADMITTED = Admitted(7, "k o", "o:pool", "", 9, b'{"i":"dead"}')
USED = Used("settled", 5, 9, b'{"i":"dead"}')


class Told(Shards):
    """What the ledger has told to each worker."""

    def __init__(self) -> None:
        self.truths: dict[str, list[str]] = {}
        self.orphans: dict[str, list[str]] = {}
        self.away = False
        self.behind = 0  # entries that the ledger has not taken yet
        self.asked: list[str] = []

    async def waiting(self, shard: int) -> int:
        if self.away:
            raise RedisDown("away")
        return self.behind

    async def persisted(self, instance: str, after: bytes) -> Persisted:
        if self.away:
            raise RedisDown("away")
        if after != b"0-0":
            return Persisted(after, [], [])
        self.asked.append(instance)
        return Persisted(b"1-1", self.truths.get(instance, []), self.orphans.get(instance, []))


class Scene:
    """A folder of journals, an heir, and what he has settled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told = Told()
        self.sent: list[str] = []
        self.journal = Journal(folder)
        self.heir = Heir(self.told, self.journal, self.sent.append)

    def died(self, *ended: str, begun: tuple[str, ...] = ()) -> str:
        """A worker that leaves these requests; its name."""
        dead = Journal(self.folder)
        for rid in (*ended, *begun):
            dead.admitted(rid, ADMITTED)
        for rid in ended:
            dead.used(rid, USED)
        die(dead)
        return dead.instance

    def heir_dies(self) -> None:
        die(self.journal)
        self.journal = Journal(self.folder)
        self.heir = Heir(self.told, self.journal, self.sent.append)

    @property
    def files(self) -> int:
        """Of the dead."""
        return len(list(self.folder.glob("*.journal"))) - 1


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_only_what_the_ledger_has_not_is_settled(scene: Scene) -> None:
    dead = scene.died("a", "b", "c")
    scene.told.truths[dead] = ["a", "c", "of another"]
    await scene.heir.step()
    assert scene.sent == ["b"]
    used = scene.journal.entries["b"].used
    assert used is not None
    assert orjson.loads(used.event) == {"i": scene.journal.instance}  # we hear of it now
    scene.journal.confirmed(["b"])
    assert scene.files == 0


async def test_a_journal_of_which_the_ledger_has_all_is_gone_at_once(scene: Scene) -> None:
    scene.told.truths[scene.died("a")] = ["a"]
    await scene.heir.step()
    assert (scene.sent, scene.files, scene.journal.inherits) == ([], 0, 0)


async def test_an_orphans_row_confirms_what_was_begun_and_no_truth(scene: Scene) -> None:
    dead = scene.died("ended", begun=("begun",))
    scene.told.orphans[dead] = ["ended", "begun"]
    await scene.heir.step()
    assert scene.sent == ["ended"]


async def test_what_an_heir_had_settled_is_not_settled_by_the_next(scene: Scene) -> None:
    """He has signed what he took over, so the next one asks for what he was told."""
    dead, first = scene.died("a", "b"), scene.journal.instance
    await scene.heir.step()
    scene.heir_dies()
    scene.told.truths[first] = ["a"]
    scene.sent.clear()
    await scene.heir.step()
    assert scene.told.asked[-2:] == [dead, first]
    assert scene.sent == ["b"]


async def test_without_redis_all_that_is_not_known_is_settled_later(scene: Scene) -> None:
    """What the ledger may have told already is sent again, which is harmless."""
    scene.died("a")
    scene.told.away = True
    await scene.heir.step()
    assert scene.sent == []
    scene.told.away = False
    await scene.heir.step()
    assert scene.sent == ["a"]


async def test_a_ledger_that_is_behind_gets_no_more_to_do(scene: Scene) -> None:
    scene.died(*(f"{nth:03}" for nth in range(40)))
    scene.told.behind = again.WAITING_MAX - 30
    await scene.heir.step()
    assert len(scene.sent) == 30
    scene.told.behind = again.WAITING_MAX
    await scene.heir.step()
    assert len(scene.sent) == 30
    scene.told.behind = 0
    await scene.heir.step()
    assert len(set(scene.sent)) == len(scene.sent) == 40


async def test_much_is_taken_over_in_parts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither memory nor the pipe to Redis has to carry all at once."""
    monkeypatch.setattr(heir_module, "ADOPTED_AT_ONCE", 4)
    monkeypatch.setattr(again, "SENT_AT_ONCE", 2)
    for nth in range(5):
        scene.died(*(f"{nth}-{one}" for one in range(3)))
    seen = 0
    while scene.files:
        await scene.heir.step()
        assert scene.journal.inherits <= 6  # the bound, and the rest of a file
        assert len(scene.sent) - seen <= 2
        scene.journal.confirmed(scene.sent[seen:])
        seen = len(scene.sent)
        await asyncio.sleep(0)
    assert len(set(scene.sent)) == len(scene.sent) == 15
