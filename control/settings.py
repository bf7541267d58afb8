"""Settings of the control plane, read once beside those of the data plane; never changed later."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from control.machine import servers
from proxy import declared
from proxy.declared import SettingsError, setting
from proxy.settings import Settings as ProxySettings

OUR_ISSUER = "opscenter"  # of the tokens that are made here
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def secret(help: str) -> Any:
    """A setting that never shows in a repr, hence in no log."""
    return field(default="", repr=False, metadata={"help": help, "low": None, "high": None})


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings(ProxySettings):
    """Everything the control plane knows before it starts; the data plane's among it."""

    database_url: str = secret("PostgreSQL: postgresql://... Empty: the server that `up` brings.")
    control_host: str = setting("127.0.0.1", "Address of the control API.")
    control_port: int = setting(8085, "Port of the control API.", 0, 65535)
    control_hosts: str = setting(
        "", "Names that the control API answers to, by commas. Empty: the loopback names."
    )
    root_key: str = secret("Root of all secrets, 32 characters or more. Empty: from a file.")
    root_key_file: str = setting("", "File of the root key. Empty: HOME/secrets/root.key.")

    admin_email: str = setting("admin@localhost", "E-mail of the first administrator.")
    grant_credits: int = setting(
        10_000, "Credits that the first organisation gets.", 0, 1_000_000_000
    )
    grant_max_credits: int = setting(
        10_000_000, "Most credits in one grant by an administrator.", 1, 9_000_000_000
    )
    private_providers: bool = setting(
        True, "Whether providers may lie on this machine or in private networks."
    )

    catalogue: bool = setting(
        True, "Whether the models and prices that come with the product are filled in."
    )
    catalogue_refresh_hours: int = setting(
        24, "Providers with a key are asked for their models this often; 0: on demand.", 0, 8760
    )
    session_hours: int = setting(12, "A sign-in ends after this.", 1, 720)
    session_idle_minutes: int = setting(30, "A sign-in ends when unused for this long.", 1, 43_200)
    token_minutes: int = setting(15, "A token of /api/v1/auth/token ends after this.", 1, 1440)
    idp_issuer: str = setting(
        "", "`iss` of your identity provider's tokens, which /api/v1/auth/token takes. Empty: none."
    )
    idp_audience: str = setting("", "`aud` of these tokens: what the provider knows us by.")
    idp_jwks_url: str = setting("", "Where the provider shows its public keys: https://...")
    idp_claim: str = setting(
        "email", "Which claim holds a person's e-mail; `email` counts only when it is verified."
    )
    idp_organisation_claim: str = setting(
        "", "Which claim holds the id of the organisation to act in. Empty: none does."
    )
    login_tries_max: int = setting(
        10, "Failed sign-ins per address and per e-mail in login_window_s.", 1, 1000
    )
    login_window_s: int = setting(300, "Span in which failed sign-ins are counted.", 1, 86_400)
    control_address_rate_max: int = setting(
        300, "Requests a minute to the control API without a good sign-in, per address; 0: any.", 0
    )
    control_key_rate_max: int = setting(
        600, "Requests a minute to the control API by one API key; 0: any number.", 0
    )
    control_person_rate_max: int = setting(
        1200, "Requests a minute to the control API by one person, over all keys; 0: any.", 0
    )
    password_parallel: int = setting(2, "Passwords checked at one time.", 1, 64)

    database_pool_max: int = setting(16, "Connections to PostgreSQL per process.", 2, 500)
    database_timeout_s: int = setting(30, "Longest wait for an answer of PostgreSQL.", 1, 3600)
    control_wait_s: int = setting(60, "At start, longest wait for PostgreSQL and Redis.", 1, 3600)
    control_body_max_bytes: int = setting(
        2**20, "Largest body that the control API takes.", 1024, 2**28
    )
    control_parallel_max: int = setting(
        256, "Requests that the control API serves at one time; then 503.", 1, 100_000
    )
    control_stop_s: int = setting(10, "Longest wait for running requests at the end.", 1, 600)

    def __post_init__(self) -> None:
        ProxySettings.__post_init__(self)
        if self.idp_issuer:
            _check_idp(self)

    @property
    def proxy(self) -> ProxySettings:
        """As the data plane knows them."""
        return self

    @property
    def database(self) -> str:
        """In asyncpg's form."""
        return self.database_url or servers.addresses(self.home, self.run_dir)[1]

    @property
    def redis(self) -> str:
        return self.redis_url or servers.addresses(self.home, self.run_dir)[0]

    @property
    def socket(self) -> Path:
        """Whoever can open it is administrator here."""
        return self.run_dir / "control.sock"

    @property
    def root_key_path(self) -> Path:
        if self.root_key_file:
            return Path(self.root_key_file).expanduser()
        return self.home / "secrets" / "root.key"

    @property
    def hosts(self) -> frozenset[str]:
        """Also the one by which the door asks."""
        asked = urlsplit(self.idp_exchange_url).hostname or ""
        names = _names(self.control_hosts) or LOOPBACK_NAMES
        return names | ({f"[{asked}]" if ":" in asked else asked} - {""})


def load(environ: Mapping[str, str]) -> ControlSettings:
    """Both planes' settings; raises SettingsError with the name and what would do."""
    return declared.load(ControlSettings, environ)


def _check_idp(given: ControlSettings) -> None:
    """A token made for anybody else would let in here, so none of them may be left out."""
    if not given.idp_audience or not given.idp_claim:
        raise SettingsError("With OPSCENTER_IDP_ISSUER set OPSCENTER_IDP_AUDIENCE and _CLAIM too.")
    if given.idp_issuer == OUR_ISSUER:
        raise SettingsError(f"OPSCENTER_IDP_ISSUER is {OUR_ISSUER!r}, as whom our tokens are made.")
    url = given.idp_jwks_url
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    at_home = host in ("localhost", "127.0.0.1", "::1")
    has_login = parts.username or parts.password if host else None
    if not host or has_login or parts.scheme not in (("http", "https") if at_home else ("https",)):
        raise SettingsError("OPSCENTER_IDP_JWKS_URL is no https://host/path without a user.")


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in text.split(",") if name.strip())
