"""LiteLLM's proxy from the package index, in an environment of its own, with one worker.

With a virtual key where its database works, that is where Prisma's engines can be had; otherwise
with a master key, which it compares without a look-up. Which, and why, stands in the result.
"""

import contextlib
import json
import os
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench.compare.gateways import Gateway, answers, free_port
from bench.compare.scenes import SCENES
from bench.stack import Program, StackError
from control.machine import servers

WANTED = ("litellm[proxy]", "prisma")
INSTALL_S = 1200
DATABASE_PASSWORD = "only-for-this-run"  # noqa: S105 - of a database that lives as long
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
FOLDER = CACHE / "opscenter-bench" / "litellm"
SETTINGS = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # nothing is fetched at its start
    "PYTHONUNBUFFERED": "1",
}


class LiteLLM:
    """Installed once in `home`; `no_database` is why there is only a master key."""

    def __init__(self, home: Path) -> None:
        self._home, self._bin = home, home / "bin"
        self.no_database = ""

    def install(self) -> None:
        """Raises StackError where that fails."""
        if (self._bin / "litellm").exists():
            return
        print(f"installing {WANTED[0]} into {self._home}: minutes, and a GB", flush=True)
        self._home.mkdir(parents=True, exist_ok=True)
        python = str(self._bin / "python")
        installed = self._run([sys.executable, "-m", "venv", str(self._home)])
        if not installed or not self._run([python, "-m", "pip", "install", "-q", *WANTED]):
            raise StackError(f"LiteLLM was not installed: {self._log}. Or: --without litellm")
        schema = next(self._home.glob("lib/*/site-packages/litellm/proxy/schema.prisma"))
        self._run([str(self._bin / "prisma"), "generate", "--schema", str(schema)])

    def try_database(self, folder: Path) -> None:
        """Finds out whether there can be a virtual key, by making one."""
        if not self._run([str(self._bin / "python"), "-c", "import prisma; prisma.Prisma()"]):
            self.no_database = "Prisma's engines cannot be had here"
            return
        try:
            with self._virtual(folder, "http://127.0.0.1:9"):
                pass
        except (StackError, OSError, KeyError, ValueError) as problem:
            self.no_database = f"its database did not work: {type(problem).__name__}"

    @contextlib.contextmanager
    def start(self, folder: Path, upstream_url: str) -> Iterator[Gateway]:
        serving = self._master if self.no_database else self._virtual
        with serving(folder, upstream_url) as gateway:
            yield gateway

    @contextlib.contextmanager
    def _master(self, folder: Path, upstream_url: str) -> Iterator[Gateway]:
        with self._serving(folder, upstream_url, {}) as (url, master, pid):
            about = f"{self._version()}, one worker; a master key ({self.no_database})"
            yield Gateway("litellm", url, master, pid, own_models=True, about=about)

    @contextlib.contextmanager
    def _virtual(self, folder: Path, upstream_url: str) -> Iterator[Gateway]:
        with contextlib.ExitStack() as stack:
            server = servers.start_postgres(folder / "pg", folder / "run", DATABASE_PASSWORD)
            stack.callback(server.stop)
            # Prisma wants a host's name, also beside the folder of a socket
            settings = {"DATABASE_URL": server.url.replace("@/", "@localhost/", 1)}
            served = stack.enter_context(self._serving(folder, upstream_url, settings))
            url, master, pid = served
            about = f"{self._version()}, one worker; a virtual key"
            key = _new_key(url, master)
            yield Gateway("litellm", url, key, pid, own_models=True, about=about)

    @contextlib.contextmanager
    def _serving(
        self, folder: Path, upstream_url: str, settings: dict[str, str]
    ) -> Iterator[tuple[str, str, int]]:
        """Its address, its master key and its process."""
        master, port, file = f"sk-{secrets.token_hex(16)}", free_port(), folder / "litellm.json"
        file.write_text(json.dumps(_configuration(upstream_url, master)))
        address = ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        command = [str(self._bin / "litellm"), "--config", str(file), *address]
        with Program(folder / "litellm.log", command, SETTINGS | settings) as process:
            url = f"http://127.0.0.1:{port}"
            process.wait_for("an answer", lambda: answers(url, master))
            yield url, master, process.pid

    def _version(self) -> str:
        names = [path.name for path in self._home.glob("lib/*/site-packages/litellm-*.dist-info")]
        return names[0].split("-")[1].removesuffix(".dist") if names else "unknown"

    @property
    def _log(self) -> Path:
        return self._home / "install.log"

    def _run(self, command: list[str]) -> bool:
        """Whether it worked; what it says goes to the log of the installation."""
        with self._log.open("ab") as log:
            try:
                done = subprocess.run(
                    command, stdout=log, stderr=subprocess.STDOUT, timeout=INSTALL_S, check=False
                )
            except (OSError, subprocess.TimeoutExpired):
                return False
        return done.returncode == 0


def _configuration(upstream_url: str, master: str) -> dict[str, object]:
    """JSON is YAML."""
    place = {"api_base": f"{upstream_url}/v1", "api_key": "sk-mock-secret"}
    models = [
        {
            "model_name": scene.model,
            "litellm_params": {"model": f"openai/{scene.upstream_model}", **place},
        }
        for scene in SCENES
    ]
    return {
        "model_list": models,
        "litellm_settings": {"telemetry": False},
        "general_settings": {"master_key": master},
    }


def _new_key(url: str, master: str) -> str:
    request = urllib.request.Request(  # noqa: S310 - our own process on loopback
        f"{url}/key/generate",
        data=b"{}",
        headers={"authorization": f"Bearer {master}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
        return str(json.loads(answer.read())["key"])
