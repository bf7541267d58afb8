"""One scene at one gateway: load it, then tell CPU by role, times, and how busy the cores were."""

import time
from dataclasses import asdict, dataclass, field, replace

import uvloop

from bench import cores, machine
from bench.compare.gateways import Gateway
from bench.compare.scenes import Scene
from bench.cores import Layout
from bench.histogram import Histogram
from bench.load import Load, Result, run

REST_SHARE = 0.05  # of a core; what uses less has nothing left to do
REST_LOOK_S = 0.2
REST_MAX_S = 30.0
ROLES = ("gateway", "redis", "drain", "postgres")


@dataclass(frozen=True, slots=True)
class Sample:
    """What one load found. Times in milliseconds, CPU in microseconds per good answer."""

    scene: str
    gateway: str  # or `provider`: the provider alone, at the rate of the gateway `beside`
    beside: str
    round: int
    answered: int
    errors: dict[str, int]
    rate: float
    per_second: float
    gateway_core: float  # busy share
    other_cores: float
    p50: float
    p99: float
    first_p50: float
    first_p99: float
    late_p50: float
    late_p99: float
    cpu_us: dict[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class At:
    """Which measurement this is."""

    scene: Scene
    round: int
    rate: float
    layout: Layout


def warm(gateway: Gateway, scene: Scene, requests: int) -> None:
    """Connections, caches and plans are there before anything counts."""
    load = scene.load(gateway.url, gateway.key, gateway.model(scene), 0.0)
    uvloop.run(run(_bounded(load, requests)))


def through(gateway: Gateway, at: At) -> Sample:
    load = at.scene.load(gateway.url, gateway.key, gateway.model(at.scene), at.rate)
    used, clock = machine.cpu_seconds(gateway.root), cores.clock()
    result = uvloop.run(run(load))
    busy = cores.clock()
    rest(gateway)  # what the load left to do is its cost too
    now, each = machine.cpu_seconds(gateway.root), 1e6 / max(result.answered, 1)
    cpu = {role: round((now.get(role, 0.0) - used.get(role, 0.0)) * each, 2) for role in ROLES}
    return _sample(gateway.name, "", at, result, (clock, busy), cpu)


def alone(upstream_url: str, beside: str, at: At) -> Sample:
    """The provider without a gateway, by an equal load."""
    clock = cores.clock()
    result = uvloop.run(run(at.scene.load(upstream_url, "", at.scene.upstream_model, at.rate)))
    return _sample("provider", beside, at, result, (clock, cores.clock()), {})


def rest(gateway: Gateway) -> None:
    """Returns when all of the gateway's processes have come to rest, or have had their time."""
    end, used = time.monotonic() + REST_MAX_S, sum(machine.cpu_seconds(gateway.root).values())
    while time.monotonic() < end:
        time.sleep(REST_LOOK_S)
        now = sum(machine.cpu_seconds(gateway.root).values())
        if now - used < REST_SHARE * REST_LOOK_S:
            return
        used = now


def idle_cpu_share(gateway: Gateway, seconds: float) -> float:
    """Of a core, while nobody asks for anything."""
    used = sum(machine.cpu_seconds(gateway.root).values())
    time.sleep(seconds)
    return (sum(machine.cpu_seconds(gateway.root).values()) - used) / seconds


def memory_mb(gateway: Gateway) -> dict[str, float]:
    return {role: round(used / 1e6, 1) for role, used in machine.memory_bytes(gateway.root).items()}


def _bounded(load: Load, requests: int) -> Load:
    return replace(load, requests=requests, connections=min(load.connections, 16))


def _sample(
    name: str,
    beside: str,
    at: At,
    result: Result,
    clocks: tuple[cores.Clock, cores.Clock],
    cpu: dict[str, float],
) -> Sample:
    return Sample(
        at.scene.name,
        name,
        beside,
        at.round,
        result.answered,
        dict(result.errors),
        round(at.rate, 1),
        round(result.per_second, 1),
        round(cores.busy_share(*clocks, at.layout.gateway), 3),
        round(cores.busy_share(*clocks, at.layout.others), 3),
        *_both(result.latency),
        *_both(result.first_byte),
        *_both(result.lateness),
        cpu,
    )


def _both(times: Histogram) -> tuple[float, float]:
    return round(times.percentile(50) * 1000, 4), round(times.percentile(99) * 1000, 4)
