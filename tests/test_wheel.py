"""What is installed: a wheel with the product, its SQL and its Lua, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from control import migrate, sql
from proxy.redis import scripts
from tests.house import LUA, PACKAGES, ROOT, run, tracked


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as a release is, from what is tracked and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for path in tracked():
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(folder)]
    subprocess.run([*command, str(source)], check=True, capture_output=True, timeout=120)
    [made] = folder.glob("*.whl")
    return made


def test_the_wheel_holds_the_product_and_nothing_else(wheel: Path) -> None:
    """SQL and Lua come along; benches, tests and pages do not, nor anything that runs by itself."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert {path.relative_to(ROOT).as_posix() for path in LUA} <= names
    for path in (ROOT / "schema").rglob("*.sql"):
        assert f"control/schema/{path.relative_to(ROOT / 'schema').as_posix()}" in names
    assert [name for name in names if name.endswith((".pth", ".pyc"))] == []
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_installed_product_needs_no_checkout(wheel: Path, tmp_path: Path) -> None:
    """From an empty folder, with the wheel alone on the path: commands, migrations, queries."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    prefix = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r});"
    code = f"""{prefix}
import control, proxy.redis.scripts
from control import migrate, sql
assert control.__file__.startswith({str(tmp_path)!r}), control.__file__
print(len(migrate.migrations()), len(sql.load()), len(proxy.redis.scripts.SCRIPTS))
"""
    wanted = (len(migrate.migrations()), len(sql.load()), len(scripts.SCRIPTS))
    assert tuple(map(int, run(code, elsewhere).split())) == wanted
    for arguments, said in ((["version"], "opscenter "), (["--help"], "Usage: opscenter")):
        command = f"{prefix} sys.argv[1:] = {arguments!r}; from control.cli import main; main()"
        assert said in run(command, elsewhere)
