"""Who PostgreSQL runs as: it refuses root and users without a name, so these lend it a user
namespace, and root, where that is forbidden, `nobody`.

Makes no user, opens no folder and changes no mode of anything that is not the server's own.
"""

import os
import pwd
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from control.machine.embedded import base
from proxy.machine import children
from proxy.machine.launch import NOBODY

COPIES: Final = (Path("/var/lib/opscenter"), Path("/tmp/opscenter-postgres-0"))  # noqa: S108 - checked


@dataclass(frozen=True, slots=True)
class Identity:
    """How a program that refuses root is started here."""

    user: int | None = None
    namespace: bool = False

    def give(self, path: Path) -> None:
        """Makes a file or folder of ours the program's."""
        if self.user is not None:
            os.chown(path, self.user, self.user)

    @contextmanager
    def reach(self, *paths: Path) -> Iterator[tuple[list[str], list[int]]]:
        """Names under which the program finds `paths`, and the descriptors it must inherit.

        `nobody` cannot walk through root's closed folders; an open descriptor leads it past them.
        """
        if self.user is None:
            yield [str(path) for path in paths], []
            return
        with ExitStack() as opened:
            fds = [os.open(path, os.O_RDONLY) for path in paths]
            for fd in fds:
                opened.callback(os.close, fd)
            yield [f"/proc/self/fd/{fd}" for fd in fds], fds

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: dict[str, str],
        log: Path,
        pass_fds: Sequence[int],
        stdin: int,
        death_signal: signal.Signals,
    ) -> children.Child:
        return children.spawn(
            argv,
            env=env,
            stdin=stdin,
            log=log,
            pass_fds=pass_fds,
            cwd="/",
            user=self.user,
            namespace=self.namespace,
            death_signal=death_signal,
        )


def choose() -> Identity:
    if os.geteuid() != 0 and _has_name(os.geteuid()):
        return Identity()
    if namespaces_work():
        return Identity(namespace=True)
    return Identity(user=NOBODY if os.geteuid() == 0 else None)


def _has_name(user: int) -> bool:
    """A container may run under any number; PostgreSQL looks its name up."""
    try:
        pwd.getpwuid(user)
    except KeyError:
        return False
    return True


def namespaces_work() -> bool:
    """Tries it in a child that does nothing else; containers often forbid it."""
    return children.spawn(["/bin/true"], namespace=True, log=Path(os.devnull)).wait() == 0


def reachable_tree(tree: Path, libraries: Path, identity: Identity) -> Path:
    """The server's installation where its user can reach it: in place, else a copy.

    The copy keeps the relative depth, because the binaries find libpq beside their package.
    """
    if identity.user is None or _open_to_all(tree / "bin" / "postgres"):
        return tree
    package = tree.parent
    for place in COPIES:
        try:
            return _copied(place, package, tree.name, libraries)
        except OSError:
            continue
    raise base.FolderUnusable(
        f"PostgreSQL refuses to run as root, this system forbids user namespaces, and no copy of "
        f"its programs could be made in {COPIES[0]}. Run as an ordinary user, or set "
        "OPSCENTER_DATABASE_URL to a server of your own."
    )


def _copied(place: Path, package: Path, tree: str, libraries: Path) -> Path:
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    owned = place.lstat()
    if owned.st_uid != 0 or owned.st_mode & 0o022 or place.is_symlink():
        raise PermissionError(f"{place} is not root's alone")
    built = (package / tree / "bin" / "postgres").stat()
    target = place / f"{tree}-{built.st_size:x}-{int(built.st_mtime):x}"
    if not target.is_dir():
        fresh = place / f".{target.name}.{os.getpid()}"
        shutil.copytree(package / tree, fresh / package.name / tree, symlinks=True)
        shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        for folder in (fresh, fresh / package.name):
            folder.chmod(0o755)
        fresh.rename(target)
    return target / package.name / tree


def _open_to_all(program: Path) -> bool:
    return all(path.stat().st_mode & 0o001 for path in (program, *program.parents))
