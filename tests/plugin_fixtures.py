"""The fixtures of the tests of plugins; a test module names this one in `pytest_plugins`."""

import importlib
import shutil
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from control import database, settings
from control.database import Pool
from control.hosting import fence, living, routes, standing
from tests.plugin_stage import FIXTURES, Host, Install, running


@pytest.fixture
async def pool(database_url: str, tmp_path: Path) -> AsyncIterator[Pool]:
    environ = {"OPSCENTER_DATABASE_URL": database_url, "OPSCENTER_HOME": str(tmp_path)}
    made = await database.connect(settings.load(environ))
    yield made
    await made.close()


@pytest.fixture
async def host(pool: Pool) -> AsyncIterator[Host]:
    async with running(pool) as made:
        yield made


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a toy on sys.path as pip would: its module and a dist-info with its entry point."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    modules: list[str] = []

    def put(
        module: str,
        name: str = "",
        *,
        permissions: Sequence[str] = ("routes",),
        distribution: str = "",
    ) -> None:
        name, distribution = name or module, distribution or f"dist-{module.replace('_', '-')}"
        monkeypatch.delitem(sys.modules, module, raising=False)
        modules.append(module)
        shutil.copy(FIXTURES / f"{module}.py", site)
        info = site / f"{distribution.replace('-', '_')}-1.2.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2.3\n"
        )
        groups = ["opscenter.plugins", *(f"opscenter.permissions.{one}" for one in permissions)]
        (info / "entry_points.txt").write_text(
            "".join(f"[{group}]\n{name} = {module}\n\n" for group in groups)
        )
        importlib.invalidate_caches()

    yield put
    for module in modules:
        loaded = sys.modules.pop(module, None)
        released = getattr(loaded, "released", None)
        if released is not None:
            released.set()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines short enough to be waited for."""
    for module, name in (
        (living, "START_S"),
        (living, "ASK_S"),
        (living, "STOP_S"),
        (living, "DRAIN_S"),
    ):
        monkeypatch.setattr(module, name, 0.3)
    monkeypatch.setattr(routes, "HANDLER_S", 0.3)
    monkeypatch.setattr(fence, "PING_S", 0.2)


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the database and at health without a pause worth speaking of."""
    monkeypatch.setattr("control.lifecycle.POLL_S", 0.02)
    monkeypatch.setattr("control.lifecycle.HEALTH_EVERY_S", 0.02)
    monkeypatch.setattr(standing, "RETRY_FIRST_S", 0.02)
