"""One proxy worker: builds the flow, serves the door on the socket it was given, drains on
SIGTERM. Started by the supervisor, never by hand.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from dataclasses import dataclass

import uvicorn
import uvloop

from proxy.admit import Admission
from proxy.flow import Flow
from proxy.http1 import Client
from proxy.keyfile import KeyFile, KeyFileError
from proxy.metrics import HEARTBEAT_MS, Metrics, open_slot
from proxy.pipe import Pipe
from proxy.server import Door
from proxy.settings import Settings, SettingsError, load
from proxy.settle import Settler
from proxy.shards import Shards
from proxy.snapshot import Current
from proxy.upstream import Upstream

log = logging.getLogger("opscenter.proxy.worker")

KEEP_ALIVE_S = 75
SETTLE_WAIT_S = 5.0  # at the end, for settlements on their way
EX_CONFIG = 78


@dataclass(frozen=True, slots=True)
class Worker:
    """The parts of one worker, and their common life."""

    settings: Settings
    metrics: Metrics
    pipe: Pipe
    current: Current
    client: Client
    flow: Flow

    @property
    def ready(self) -> bool:
        return self.pipe.up and self.current.snapshot.version > 0

    async def run(self, listener: socket.socket) -> None:
        await self.pipe.start()
        keepers = [
            asyncio.create_task(self.current.keep()),
            asyncio.create_task(self.flow.settler.keep_holds(self.settings.renew_ms / 1000)),
            asyncio.create_task(self._beat()),
        ]
        server = _server(Door(self.flow, lambda: self.ready), self.settings)
        stop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            stop.add_signal_handler(number, setattr, server, "should_exit", True)
        try:
            await server._serve(sockets=[listener])
        finally:
            self.metrics.beat(ready=False)
            await self.flow.settler.drain(SETTLE_WAIT_S)
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            self.client.close()
            await self.pipe.stop()

    async def _beat(self) -> None:
        while True:
            self.metrics.beat(self.ready)
            await asyncio.sleep(HEARTBEAT_MS / 1000)


def build(settings: Settings, keys: KeyFile, metrics: Metrics, slot: int) -> Worker:
    pipe = Pipe(
        settings.redis,
        connections=settings.redis_connections,
        connect_ms=settings.redis_connect_ms,
        timeout_ms=settings.redis_timeout_ms,
        backlog_max=settings.redis_backlog_max,
    )
    shards = Shards(pipe, settings.lease_ms)
    current = Current(shards, keys, settings.snapshot_poll_ms)
    client = Client(settings, metrics)
    instance = f"{socket.gethostname()}-{os.getpid()}-{slot}"
    flow = Flow(
        settings=settings,
        current=current,
        admission=Admission(shards, keys, metrics, instance, settings.callers_max),
        upstream=Upstream(client, settings, metrics),
        settler=Settler(shards, metrics, settings.lease_ms),
        metrics=metrics,
    )
    return Worker(settings, metrics, pipe, current, client, flow)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--fd", type=int, required=True)
    given = parser.parse_args()
    try:
        settings = load(Settings, os.environ, strict=False)
        keys = KeyFile.load(settings.proxy_keys)
    except (SettingsError, KeyFileError) as problem:
        print(f"opscenter proxy: {problem}", file=sys.stderr)
        return EX_CONFIG
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    worker = build(settings, keys, open_slot(settings.run_dir, given.slot), given.slot)
    uvloop.run(worker.run(socket.socket(fileno=given.fd)))
    return 0


def _server(door: Door, settings: Settings) -> uvicorn.Server:
    config = uvicorn.Config(
        door,
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(settings.drain_ms // 1000, 1),
    )
    return uvicorn.Server(config)


if __name__ == "__main__":
    sys.exit(main())
