"""A Redis Cluster for tests: three masters with a replica each, on free ports of loopback, formed,
broken and healed from here. The servers die with pytest.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError

from control.machine.embedded.valkey import find_binary
from proxy.machine.children import Child, spawn
from proxy.redis.slots import SLOTS

MASTERS, REPLICAS = 3, 3
PASSWORD = "only-for-tests"
PATIENCE_S = 30.0
NODE_TIMEOUT_MS = 2_000  # a master that is silent for so long is given up by the others


@dataclass(slots=True)
class Member:
    """One server of the cluster."""

    port: int
    bus_port: int
    folder: Path
    process: Child
    id: str = ""

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(self, *words: Any) -> Any:
        with redis.Redis(port=self.port, password=PASSWORD, protocol=2) as client:
            client.response_callbacks.clear()
            return client.execute_command(*words)

    def info(self, section: str) -> dict[str, str]:
        text = self.ask("INFO", section).decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def answers(self) -> bool:
        return bool(self.ask("PING") == b"PONG")

    @property
    def replicates(self) -> bool:
        info = self.info("replication")
        return info["role"] == "slave" and info["master_link_status"] == "up"


@dataclass(slots=True)
class ClusterStage:
    """The servers, and what may happen to them."""

    folder: Path
    binary: Path
    members: list[Member] = field(default_factory=list)

    @property
    def url(self) -> str:
        hosts = ",".join(member.name for member in self.members)
        return f"redis://:{PASSWORD}@{hosts}"

    @property
    def alive(self) -> list[Member]:
        return [member for member in self.members if member.process.poll() is None]

    def member(self, port: int) -> Member:
        return next(member for member in self.members if member.port == port)

    def served(self) -> list[tuple[int, int, Member]]:
        """First and last slot and the master of each run."""
        rows = self.alive[0].ask("CLUSTER", "SLOTS")
        return [(first, last, self.member(master[1])) for first, last, master, *_ in rows]

    def master_of(self, slot: int) -> Member:
        return next(master for first, last, master in self.served() if first <= slot <= last)

    @property
    def masters(self) -> list[Member]:
        return list({master.port: master for _, _, master in self.served()}.values())

    # how it begins ----------------------------------------------------------------------

    def start(self, nth: int) -> None:
        port, bus_port = free_ports(2)
        folder = self.folder / f"node{nth}"
        folder.mkdir()
        process = launch(self.binary, folder, port, bus_port)
        self.members.append(Member(port, bus_port, folder, process))

    def form(self) -> None:
        for member in self.members:
            until(member.answers)
            member.id = member.ask("CLUSTER", "MYID").decode()
        masters, replicas = self.members[:MASTERS], self.members[MASTERS:]
        for nth, master in enumerate(masters):
            master.ask("CLUSTER", "SET-CONFIG-EPOCH", nth + 1)
            first, last = SLOTS * nth // MASTERS, SLOTS * (nth + 1) // MASTERS - 1
            master.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
        for member in self.members[1:]:
            self.members[0].ask("CLUSTER", "MEET", "127.0.0.1", member.port, member.bus_port)
        until(lambda: all(self._knows_all(member) for member in self.members))
        for replica, master in zip(replicas, masters, strict=True):
            replica.ask("CLUSTER", "REPLICATE", master.id)
        self.wait_healthy()

    def _knows_all(self, member: Member) -> bool:
        return int(cluster_info(member)["cluster_known_nodes"]) == len(self.members)

    def wait_healthy(self) -> None:
        """All slots served, every replica in sync: only then a failover is possible."""

        def healthy() -> bool:
            roles = [member.replicates for member in self.members]
            states = {cluster_info(member)["cluster_state"] for member in self.members}
            rows = [m.ask("CLUSTER", "SLOTS") for m in self.members]
            full = all(sum(r[1] - r[0] + 1 for r in row) == SLOTS for row in rows)
            paired = all(len(r) >= 4 for row in rows for r in row)
            return sum(roles) == REPLICAS and states == {"ok"} and full and paired

        until(healthy)

    # what happens to it -----------------------------------------------------------------

    def kill(self, member: Member) -> None:
        """kill -9, as a crash of its machine."""
        member.process.kill()
        member.process.wait()

    def stop(self) -> None:
        for member in self.alive:
            self.kill(member)

    def promoted(self, member: Member) -> bool:
        """Whether the others have replaced it as a master."""
        nodes = [m.ask("CLUSTER", "NODES").decode() for m in self.alive]
        lines = [line.split() for text in nodes for line in text.splitlines()]
        return not any(line[0] == member.id and len(line) > 8 for line in lines)

    def heal(self) -> None:
        """Whoever is dead comes back, as a replica of who took over; nothing is left half moved."""
        for member in self.members:
            if member.process.poll() is not None:
                member.process = launch(self.binary, member.folder, member.port, member.bus_port)
                until(member.answers)
        self.wait_healthy()

    def empty(self) -> None:
        for master in self.masters:
            master.ask("FLUSHALL")
            master.ask("SCRIPT", "FLUSH")

    def move(self, slot: int, to: Member, between: Callable[[], None] = lambda: None) -> None:
        """Moves one slot while it is used, as a resharding tool does it: key by key."""
        source = self.master_of(slot)
        if source is to:
            return
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
            between()
            head = ("MIGRATE", "127.0.0.1", to.port, "", 0, 5_000)
            source.ask(*head, "AUTH", PASSWORD, "KEYS", *keys)
        for member in (to, source, *self.alive):
            # a replica may not be told; it learns from its master
            if member in (to, source) or not member.info("replication")["role"].startswith("sl"):
                member.ask("CLUSTER", "SETSLOT", slot, "NODE", to.id)


@contextmanager
def cluster(folder: Path) -> Iterator[ClusterStage]:
    stage = ClusterStage(folder, find_binary())
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(stage.stop)
        for nth in range(MASTERS + REPLICAS):
            stage.start(nth)
        stage.form()
        yield stage


def launch(binary: Path, folder: Path, port: int, bus_port: int) -> Child:
    options = {
        "port": port,
        "bind": "127.0.0.1",
        "dir": folder,
        "cluster-enabled": "yes",
        "cluster-port": bus_port,
        "cluster-config-file": folder / "nodes.conf",
        "cluster-node-timeout": NODE_TIMEOUT_MS,
        # without these two a master that dies early has no successor
        "cluster-replica-validity-factor": 0,
        "repl-diskless-sync-delay": 0,
        "requirepass": PASSWORD,
        "masterauth": PASSWORD,
        "appendonly": "no",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return spawn(
        [str(binary), *arguments],
        env={"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        log=folder / "log",
        cwd="/",
    )


def cluster_info(member: Member) -> dict[str, str]:
    text = member.ask("CLUSTER", "INFO").decode()
    return dict(line.split(":", 1) for line in text.splitlines())


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def until(true: Callable[[], bool]) -> None:
    """Waits for what the servers do among themselves."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if true():
                return
        except (RedisError, OSError) as problem:
            if time.monotonic() > deadline:
                raise TimeoutError("the cluster did not come so far") from problem
        if time.monotonic() > deadline:
            raise TimeoutError("the cluster did not come so far")
        time.sleep(0.02)
