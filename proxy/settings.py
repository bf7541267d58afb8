"""The settings of the data plane, read once into a frozen object; a restart changes them. Never
holds what the control plane can change while running: that is the snapshot's.
"""

import os
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import quote, urlsplit

from proxy.declared import DEFAULT_HOME, PREFIX, SettingsError, absolute, setting

SOCKET_PATH_MAX = 100  # bytes; the system takes 107
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the data plane, its supervisor and everything above it need to know."""

    home: Path = setting(Path(DEFAULT_HOME), "Where data, secrets, logs and sockets live.")
    redis_url: str = setting(
        "",
        "Redis or Valkey: redis://, rediss:// or unix://; of a cluster or of replicas several"
        " hosts: redis://user:password@h1:6379,h2:6379/0. Empty: the server that `up` brings.",
        secret=True,
    )
    run_dir_at: str = setting("", "Folder for sockets and pids. Empty: HOME/run, or a short one.")
    proxy_key_file: str = setting(
        "", "Pepper and provider-secret key of the proxies. Empty: HOME/secrets/proxy.json."
    )
    log_level: str = setting("info", "debug, info, warning or error.", one_of=LOG_LEVELS)

    door_host: str = setting("127.0.0.1", "Address of the door, where apps call.")
    door_port: int = setting(8084, "Port of the door.", 0, 65535)
    health_host: str = setting("127.0.0.1", "Address that tells health and metrics of the proxies.")
    health_port: int = setting(8086, "Port that tells health and metrics of the proxies.", 0, 65535)
    trusted_proxies: str = setting(
        "",
        "Addresses and networks, by commas, of the proxies in front of door and control API whose"
        " X-Forwarded-For is believed.",
    )
    public_catalogue: bool = setting(
        True, "Whether /api/v1/llm/models lists models and prices to callers without a key."
    )
    workers: int = setting(0, "Proxy workers on this machine; 0: one per core.", 0, 256)

    redis_connections: int = setting(2, "Connections to Redis per worker.", 1, 64)
    redis_connect_ms: int = setting(
        50, "Longest wait for a connection to Redis (remote ones: more).", 1, 10_000
    )
    redis_timeout_ms: int = setting(
        200, "Longest wait for an answer of Redis before a request is refused.", 5, 10_000
    )
    redis_backlog_max: int = setting(
        10_000, "Commands that may wait for Redis in a worker; then 503.", 1, 1_000_000
    )
    lease_ms: int = setting(
        12_000, "A hold lives this long unless its request renews it.", 2_000, 600_000
    )
    renew_ms: int = setting(4_000, "How often running requests renew their holds.", 500, 200_000)
    slice_tokens: int = setting(
        1024, "Output tokens that a stream's hold carries before more is held.", 16, 1_000_000
    )
    output_assumed: int = setting(
        1024,
        "Output tokens that limits of tokens set aside for a request that names no maximum.",
        0,
        1_000_000,
    )
    cached_tokens_count: bool = setting(
        True, "Whether limits of tokens count those that the provider had cached."
    )
    backlog_max: int = setting(
        1_000_000, "Requests per shard that may wait for the ledger; then 503.", 1
    )
    snapshot_poll_ms: int = setting(500, "How often a worker asks for news.", 50, 60_000)
    callers_max: int = setting(20_000, "Keys and organisations that a worker remembers.", 10)
    failed_keys_max: int = setting(
        100,
        "Guessed keys of one address (IPv6: of a /64) per worker in failed_keys_window_s; then 429."
        " 0: any number.",
        0,
        1_000_000,
    )
    failed_keys_window_s: int = setting(60, "Span in which guessed keys are counted.", 1, 86_400)
    failed_keys_addresses_max: int = setting(
        20_000, "Addresses whose guesses a worker remembers.", 1, 10_000_000
    )
    idp_exchange_url: str = setting(
        "",
        "Control API that the door asks whom a token of your identity provider names, such as"
        " http://127.0.0.1:8085. Empty: the one that `up` brings, without `up` none.",
    )

    connections_max: int = setting(
        16_384, "Clients' connections per worker; more wait in the socket's queue.", 1
    )
    address_connections_max: int = setting(
        12_288, "Connections of one address per worker; a proxy in front is one address.", 1
    )
    requests_max: int = setting(2_048, "Requests that a worker serves at one time.", 1)
    requests_waiting_max: int = setting(512, "Requests that may wait to be served; then 503.", 0)
    bodies_max_bytes: int = setting(
        256 * 2**20, "Bodies in a worker's memory at one time; beyond, reading waits.", 1024
    )
    overload_wait_ms: int = setting(500, "Longest wait for either; then 503.", 1, 60_000)
    head_timeout_ms: int = setting(10_000, "Within this the head of a request has to come.", 10)
    body_idle_timeout_ms: int = setting(15_000, "Longest pause inside a request's body.", 10)
    body_timeout_ms: int = setting(300_000, "Within this a request's body has to come.", 10)
    keep_alive_ms: int = setting(75_000, "A client's unused connection is closed after this.", 10)
    stall_timeout_ms: int = setting(
        60_000, "A client who reads nothing of his answer for so long is cut off.", 10
    )

    body_max_bytes: int = setting(20 * 2**20, "Largest request body.", 1024)
    json_depth_max: int = setting(64, "Deepest nesting of a request body.", 1, 250)
    json_items_max: int = setting(500_000, "Most values in a request body.", 100)
    answer_max_bytes: int = setting(64 * 2**20, "Largest plain answer of a provider.", 1024)
    stream_buffer_bytes: int = setting(
        256 * 2**10, "What may wait in one stream for a slow client.", 4096
    )
    event_max_bytes: int = setting(2**20, "Longest event of a stream.", 1024)

    connect_timeout_ms: int = setting(5_000, "Longest wait for a provider's connection.", 10)
    first_byte_timeout_ms: int = setting(120_000, "Longest wait for the first byte.", 10)
    idle_timeout_ms: int = setting(60_000, "Longest pause inside an answer.", 10)
    total_timeout_ms: int = setting(1_800_000, "Longest answer in all.", 10)
    upstream_connections: int = setting(512, "Connections to one provider per worker.", 1)
    upstream_waiters_max: int = setting(512, "Requests that may wait for one of them.", 0)
    upstream_wait_ms: int = setting(2_000, "Longest wait for one of them.", 1)
    upstream_idle_ms: int = setting(30_000, "An unused connection is closed after this.", 100)
    upstream_age_ms: int = setting(
        600_000,
        "A connection older than this is not kept, so that a provider's name is resolved anew.",
        1_000,
    )
    byok_private: bool = setting(
        False,
        "Whether keys that people and organisations bring may be for private addresses.",
    )
    upstream_ca_file: str = setting(
        "",
        "PEM file of further authorities whose certificates providers may show. Empty: those of"
        " the system alone.",
    )

    vocabularies_at: str = setting(
        "",
        "Folder of tiktoken's vocabularies, by which tokens are counted that no provider tells"
        " (`opscenter vocabularies`). Empty: HOME/vocabularies.",
    )
    count_timeout_ms: int = setting(
        2_000, "Longest wait for such a count; then it is estimated by bytes.", 10, 600_000
    )
    drain_ms: int = setting(
        30_000, "A worker that stops lets its running requests end within this time.", 0, 3_600_000
    )
    echo_delay_ms: int = setting(15, "Pause of ops/echo between two pieces of a stream.", 0, 10_000)

    def __post_init__(self) -> None:
        if self.renew_ms * 2 > self.lease_ms:
            raise SettingsError(
                f"{PREFIX}RENEW_MS is {self.renew_ms}; it takes half of {PREFIX}LEASE_MS at most,"
                " so that a hold outlives one renewal that fails."
            )
        if not _may_be_asked(self.idp_exchange_url):
            raise SettingsError(f"{PREFIX}IDP_EXCHANGE_URL takes http://HOST:PORT or https://HOST.")
        self.proxies  # noqa: B018 - refused at start, not at the first request

    @property
    def proxies(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Whose X-Forwarded-For is believed."""
        written = [one.strip() for one in self.trusted_proxies.split(",") if one.strip()]
        try:
            return tuple(ip_network(one) for one in written)
        except ValueError as problem:
            raise SettingsError(
                f"{PREFIX}TRUSTED_PROXIES: {problem}; it takes addresses such as 10.0.0.9 and"
                " networks such as 10.0.0.0/8."
            ) from None

    @property
    def run_dir(self) -> Path:
        """Sockets live here, so its path is kept short: a long home gets a private folder."""
        if self.run_dir_at:
            return absolute(self.run_dir_at)
        return short_run_dir(self.home)

    @property
    def journal(self) -> Path:
        """What workers must remember: on a disk that outlives them."""
        return self.home / "journal"

    @property
    def vocabularies(self) -> Path:
        if self.vocabularies_at:
            return absolute(self.vocabularies_at)
        return self.home / "vocabularies"

    @property
    def proxy_keys(self) -> Path:
        if self.proxy_key_file:
            return absolute(self.proxy_key_file)
        return self.home / "secrets" / "proxy.json"

    @property
    def redis(self) -> str:
        if self.redis_url:
            return self.redis_url
        return f"unix://{quote(str(self.run_dir / 'valkey.sock'))}"


def _may_be_asked(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return not url or (parts.scheme in ("http", "https") and bool(parts.hostname))
    except ValueError:
        return False


def short_run_dir(home: Path) -> Path:
    inside = home / "run"
    longest = inside / ".s.PGSQL.65535.lock"
    if len(os.fsencode(longest)) <= SOCKET_PATH_MAX:
        return inside
    mark = blake2b(os.fsencode(home), digest_size=6).hexdigest()
    return Path("/tmp") / f"opscenter-{os.getuid()}-{mark}"  # noqa: S108 - made private by `up`
