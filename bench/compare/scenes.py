"""What is measured: the scenes, in the order in which a round plays them."""

from dataclasses import dataclass, replace

from bench.load import Load

PROMPT = "Say something about the price of exactness. " * 20  # makes the body 1 KB
PRICES = {"input": "0.15", "output": "0.6", "cache_read": "0.075"}
PLAIN = "mock/ok?in=200&out=80&bytes=440"  # makes the answer 1 KB
STREAM = "mock/ok?in=200&out=100&chunks=50&bytes=1000"


@dataclass(frozen=True, slots=True)
class Scene:
    """Without a rate a closed loop; `of_peak`: the rate is that share of the gateway's own peak."""

    name: str
    upstream_model: str
    connections: int
    seconds: float
    stream: bool = False
    rate: float = 0.0
    of_peak: float = 0.0
    piece_ms: int = 0
    compared: bool = False  # with the provider alone at the same rate
    slow_too: bool = True  # also for a gateway that could not keep up

    @property
    def model(self) -> str:
        return f"bench/{self.name}"

    def load(self, url: str, key: str, model: str, rate: float) -> Load:
        """What the generator has to do at one gateway; an open loop sends `seconds` long."""
        load = Load(
            url,
            model,
            key,
            connections=self.connections,
            requests=int(rate * self.seconds) if rate else 1_000_000,
            starts_s=self.seconds,
            rate=rate or None,
            stream=self.stream,
            prompt=PROMPT,
            piece_s=self.piece_ms / 1000,
        )
        return replace(load, seconds=self.seconds + 120.0)


PEAK = Scene("plain", PLAIN, 32, 3.0)
SCENES = (
    PEAK,
    Scene("steady", f"{PLAIN}&tag=1", 64, 5.0, rate=40.0, compared=True),
    Scene("busy", f"{PLAIN}&tag=2", 256, 3.0, of_peak=0.7, compared=True),
    Scene("stream", STREAM, 16, 3.0, stream=True),
    Scene(
        "paced",
        f"{STREAM}&chunk_ms=20",
        64,
        4.0,
        stream=True,
        rate=8.0,
        piece_ms=20,
        compared=True,
    ),
    Scene(
        "many",
        f"{STREAM}&chunk_ms=40",
        1000,
        4.0,
        stream=True,
        rate=250.0,
        piece_ms=40,
        compared=True,
        slow_too=False,
    ),
)
