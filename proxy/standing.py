"""A caller's meters, gathered once and not for every request. Pure."""

from proxy.scripts import SHARD_KEYS
from proxy.types import Call, Caller, Issuer, Job, KeyRecord, Meter, OrganisationRecord, Standing


def caller_of(
    key: KeyRecord,
    organisation: OrganisationRecord,
    digest: bytes = b"",
    until_ms: int = 0,
    issuer: Issuer | None = None,
) -> Caller:
    return Caller(key, organisation, _gathered(key, organisation, ()), digest, until_ms, issuer)


def standing_of(caller: Caller, call: Call) -> Standing:
    """The caller's, with the job of this call where it names a ceiling."""
    job = call.job
    if job is None or job.ceiling_ucr is None:
        return caller.standing
    return with_job(caller, job)


def with_job(caller: Caller, job: Job) -> Standing:
    key, organisation, ceiling = caller.key, caller.organisation, job.ceiling_ucr or 0
    owner = SHARD_KEYS[key.shard].prefix + f"w:j:{organisation.id}:{job.id}".encode()
    return _gathered(key, organisation, (Meter(owner, b"bud", "ucr", "job", ceiling),))


def _gathered(key: KeyRecord, organisation: OrganisationRecord, job: tuple[Meter, ...]) -> Standing:
    """The records come first and a job last: the scripts find them by their place."""
    meters, at = organisation.meters + key.meters + job, SHARD_KEYS[key.shard]
    named = [at.key(key.kid), at.organisation(organisation.id), *(m.owner for m in meters)]
    owners = tuple(dict.fromkeys(named))
    paying = next(nth for nth, meter in enumerate(meters) if meter.unit == "pool")
    return Standing(
        meters=meters,
        owners=owners,
        owners_text=b" ".join(owners).decode(),
        paying=paying,
        pool=_name(meters[paying]),
        budgets=" ".join(_name(meter) for meter in meters if meter.unit == "ucr"),
    )


def _name(meter: Meter) -> str:
    return (meter.owner + b":" + meter.name).decode()
