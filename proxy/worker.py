"""One proxy worker: builds the flow, serves the door on the socket it was given, drains on
SIGTERM. Started by the supervisor, never by hand.
"""

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys

import uvloop

from proxy.admit import Admission
from proxy.costs.counting import Counting
from proxy.declared import SettingsError, load
from proxy.door import Door
from proxy.flow import Flow
from proxy.machine.files import make_room
from proxy.machine.journal import Journal
from proxy.metrics import HEARTBEAT_MS, Metrics, open_slot
from proxy.reach.http1 import Client
from proxy.redis.address import RedisUrlError
from proxy.redis.cluster import Redis
from proxy.redis.shards import Shards
from proxy.serve.server import FILES_KEPT, Server
from proxy.settings import Settings
from proxy.settle import Settler
from proxy.snapshot import Current
from proxy.upstream import Upstream
from proxy.who.keyfile import KeyFile, KeyFileError
from proxy.who.shown import ShownTokens
from proxy.who.tries import Tries

log = logging.getLogger("opscenter.proxy.worker")

FIRST_READY_S = 3.0
FIRST_BEATS_S = 0.02  # until it is ready, so that nobody waits for a heartbeat
CONFIRM_WAIT_S, CONFIRM_LOOK_S = 2.0, 0.05
SETTLE_WAIT_S = 5.0  # at the end, for settlements on their way
COLLECTED_AFTER = (10_000, 20, 50)  # objects, and rounds of the younger generations


class Worker:
    """The parts of one worker, and their common life."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        pipe: Redis,
        client: Client,
        flow: Flow,
        journal: Journal,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.pipe = pipe
        self.client = client
        self.flow = flow
        self.journal = journal
        self.started = asyncio.Event()  # ready for the first time
        door = Door(flow, lambda: self.ready)
        self._server = Server(settings, metrics, door.serve, door.check)

    @property
    def ready(self) -> bool:
        return self.pipe.up and self.flow.current.fresh and self.flow.settler.ready

    def stop(self) -> None:
        """Lets running requests end, then `run` returns."""
        self._server.stop()

    async def run(self, listener: socket.socket, signals: bool = True) -> None:
        await self.pipe.start()
        keepers = [
            asyncio.create_task(self.flow.current.keep()),
            asyncio.create_task(self.flow.settler.keeper.keep(self.settings.renew_ms / 1000)),
            asyncio.create_task(self.flow.settler.keeper.hear()),
            asyncio.create_task(self.flow.settler.confirm(lambda: self.pipe.up)),
            asyncio.create_task(self._beat()),
        ]
        for keeper in keepers:
            keeper.add_done_callback(self._keeper_ended)
        await self._first_ready()
        if signals:  # the process is ours alone
            self._settle_down()
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self.stop)
        try:
            await self._server.serve(listener)
        finally:
            self.metrics.beat(ready=False)
            await self.flow.counting.close()
            await self.flow.settler.drain(SETTLE_WAIT_S)
            await self._confirmed()
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            self.client.close()
            await self.pipe.stop()
            self.journal.close()

    def _settle_down(self) -> None:
        """What is there now stays: nobody need look through it for garbage again. What a request
        leaves is mostly gone by itself, so the collector may come less often.
        """
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECTED_AFTER)

    async def _first_ready(self) -> None:
        """Clients wait in the socket's queue rather than be told that there are no models; but not
        for long, because 503 is an answer too."""
        try:
            async with asyncio.timeout(FIRST_READY_S):
                await self.started.wait()
        except TimeoutError:
            log.warning("serving although not ready: Redis is away, or nothing is published yet")

    def _keeper_ended(self, keeper: "asyncio.Task[None]") -> None:
        """Without one of them holds would expire unseen: better another worker takes over."""
        if not keeper.cancelled() and keeper.exception() is not None:
            log.error("a keeper failed, this worker ends", exc_info=keeper.exception())
            self.stop()

    async def _confirmed(self) -> None:
        """Waits a little for the ledger, so that no successor has to take anything over."""
        deadline = asyncio.get_running_loop().time() + CONFIRM_WAIT_S
        while self.journal.entries and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(CONFIRM_LOOK_S)

    async def _beat(self) -> None:
        while True:
            self.metrics.beat(self.ready)
            if self.ready:
                self.started.set()
            await asyncio.sleep(HEARTBEAT_MS / 1000 if self.started.is_set() else FIRST_BEATS_S)


def build(settings: Settings, keys: KeyFile, metrics: Metrics) -> Worker:
    pipe = Redis(
        settings.redis,
        connections=settings.redis_connections,
        connect_ms=settings.redis_connect_ms,
        timeout_ms=settings.redis_timeout_ms,
        backlog_max=settings.redis_backlog_max,
    )
    shards = Shards(pipe, settings.lease_ms, settings.backlog_max)
    current = Current(shards, keys, settings.snapshot_poll_ms)
    client = Client(settings, metrics)
    journal = Journal(settings.journal)
    settler = Settler(shards, metrics, journal, settings.cached_tokens_count)
    shown = ShownTokens(
        lambda: current.snapshot.issuers,
        client,
        settings.idp_exchange_url,
        settings.callers_max,
    )
    flow = Flow(
        settings=settings,
        current=current,
        admission=Admission(
            shards,
            keys,
            metrics,
            journal.instance,
            settings,
            settler.release,
            shown,
            Tries(
                settings.failed_keys_max,
                settings.failed_keys_window_s,
                settings.failed_keys_addresses_max,
            ),
        ),
        upstream=Upstream(client, settings, metrics),
        settler=settler,
        metrics=metrics,
        counting=Counting(settings.vocabularies, settings.count_timeout_ms / 1000),
    )
    return Worker(settings, metrics, pipe, client, flow, journal)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--fd", type=int, required=True)
    given = parser.parse_args()
    try:
        settings = load(Settings, os.environ, strict=False)
        keys = KeyFile.load(settings.proxy_keys)
        worker = build(settings, keys, open_slot(settings.run_dir, given.slot))
    except (SettingsError, KeyFileError, RedisUrlError) as problem:
        print(f"opscenter proxy: {problem}", file=sys.stderr)
        return os.EX_CONFIG
    except OSError as problem:  # the supervisor tries again, and there may be room then
        where, why = problem.filename or settings.home, problem.strerror
        cure = "Free some room there, or give it to the user that runs the proxies."
        print(f"opscenter proxy: {where} cannot be written: {why}. {cure}", file=sys.stderr)
        return 1
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    make_room(settings.connections_max + settings.upstream_connections + FILES_KEPT)
    uvloop.run(worker.run(socket.socket(fileno=given.fd)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
