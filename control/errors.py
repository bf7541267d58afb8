"""What the control API says when it refuses: the sentences of the control plane's own errors.

Foreign exceptions become these in one place, control/app.py. None holds a secret.
"""

from proxy.errors import CallerError, LimitError, OpsError

# Who calls ----------------------------------------------------------------------


class NotSignedIn(CallerError):
    """You are not signed in. Run `opscenter login`, or send `Authorization: Bearer` with a session
    or an API key."""

    status = 401
    code = "not_signed_in"
    kind = "authentication_error"


class CredentialInvalid(CallerError):
    """This sign-in or API key is not valid here: unknown, ended, revoked, or not of a member of
    this organisation. Sign in again with `opscenter login`."""

    status = 401
    code = "credential_invalid"
    kind = "authentication_error"


class LoginInvalid(CallerError):
    """The e-mail or the password is wrong, or the account is suspended. Try again, or ask an
    administrator for a new password (`opscenter user password`)."""

    status = 401
    code = "login_invalid"
    kind = "authentication_error"


class PersonUnknown(CallerError):
    """Your identity provider names you {name}, and nobody active here has that e-mail. Ask an
    administrator to add you with `opscenter user create`."""

    status = 403
    code = "person_unknown"
    kind = "permission_error"


class IdentityDiffers(CallerError):
    """Your identity provider names you {name}, but another account of it has signed in as that
    person here. If both are yours, ask an administrator for `opscenter user unlink {name}`."""

    status = 403
    code = "identity_differs"
    kind = "permission_error"


class LoginsTooMany(LimitError):
    """Too many failed sign-ins from this address or for this e-mail. Wait {seconds} seconds."""

    code = "logins_too_many"


class AskedTooOften(LimitError):
    """This {owner} asks the control API more than {limit} times a minute. Wait {seconds} seconds,
    or have {setting} set higher."""

    code = "control_rate_limited"


class CrossSite(CallerError):
    """A browser's sign-in changes something only for pages of this Ops-Center, and this request may
    come from elsewhere: {why}. Programs send `Authorization: Bearer` instead."""

    status = 403
    code = "cross_site"
    kind = "permission_error"


class RoleMissing(CallerError):
    """This needs the role {needed}; you hold {held}. Ask an administrator."""

    status = 403
    code = "role_missing"
    kind = "permission_error"


class PlanLacks(CallerError):
    """The plan `{plan}` of this organisation does not include {feature}. Ask the platform's
    administrator for another plan (`opscenter org edit --plan`)."""

    status = 403
    code = "plan_lacks"
    kind = "permission_error"


class PlatformOnly(CallerError):
    """This concerns the whole Ops-Center, so it needs the role {needed} in its platform's own
    organisation. Ask its administrator."""

    status = 403
    code = "platform_only"
    kind = "permission_error"


class GrantTooHigh(CallerError):
    """Nobody can give or change what he does not hold: {why}. Ask somebody who holds it."""

    status = 403
    code = "grant_too_high"
    kind = "permission_error"


class Suspended(CallerError):
    """Your organisation is suspended. Ask the administrator of this Ops-Center."""

    status = 403
    code = "organisation_suspended"
    kind = "permission_error"


# What is asked --------------------------------------------------------------------


class NotFound(CallerError):
    """There is no {what} of this name here. List those that there are with `{listing}`."""

    status = 404
    code = "not_found"


class PathUnknown(CallerError):
    """Nothing is served at this path. `opscenter --help` shows what can be done; the LLM door has
    an address of its own."""

    status = 404
    code = "route_not_found"


class MethodUnknown(CallerError):
    """This path does not take this method. The header Allow names those that it takes."""

    status = 405
    code = "method_not_allowed"


class Invalid(CallerError):
    """{why}"""

    code = "invalid_value"


class FieldsInvalid(CallerError):
    """The request cannot be used: {why}."""

    status = 422
    code = "fields_invalid"


class Conflict(CallerError):
    """{why}"""

    status = 409
    code = "conflict"
    retry = False


class CreditsTooFew(CallerError):
    """Only {left} credits are free there: the others are spent, or held by running requests. Take
    less, or try again when these have ended."""

    status = 409
    code = "credits_too_few"


class HostUnknown(CallerError):
    """This Ops-Center does not answer to that host name. An administrator adds it to
    OPSCENTER_CONTROL_HOSTS."""

    status = 421
    code = "host_unknown"


class IdempotencyKeyInvalid(CallerError):
    """An Idempotency-Key has 1 to 255 visible ASCII characters. Send a fresh UUID."""

    code = "idempotency_key_invalid"


class IdempotencyKeyReused(CallerError):
    """This Idempotency-Key was sent with another request within 24 hours. Take a fresh one for a
    new request, or send the first request again unchanged."""

    status = 422
    code = "idempotency_key_reused"


# Ours -------------------------------------------------------------------------------


class DatabaseAway(OpsError):
    """PostgreSQL does not answer just now, so nothing was changed. Try again in a moment;
    `opscenter doctor` shows what is wrong."""

    status = 503
    code = "database_unavailable"
    retry_after_s = 2


class DatabaseFull(OpsError):
    """PostgreSQL has no room left, so nothing was changed. Free some room on its disk, then try
    again; `opscenter doctor` shows how much there is."""

    status = 507
    code = "database_full"
    retry_after_s = 30


class RedisAway(OpsError):
    """Redis does not answer just now or is being filled, so nothing was moved. Try again in a
    moment; `opscenter doctor` shows what is wrong."""

    status = 503
    code = "redis_unavailable"
    retry_after_s = 2


class AuditUnavailable(OpsError):
    """The audit log cannot be written, so nothing was changed. Mend the database, then try
    again."""

    status = 503
    code = "audit_unavailable"
    retry_after_s = 5


class IdentityProviderAway(OpsError):
    """Your identity provider's keys are not known yet, so its token cannot be checked. Try again in
    a moment; `opscenter doctor` shows why they cannot be fetched."""

    status = 503
    code = "identity_provider_away"
    retry_after_s = 5


class TokenKeyLost(OpsError):
    """No token can be signed: this Ops-Center's root key is not the one that its token keys were
    made from. Put it back, or restart the control plane to have new token keys."""

    status = 503
    code = "token_key_lost"
    retry = False


class AnswerSealed(OpsError):
    """The first answer to this Idempotency-Key cannot be opened with today's root key. Look at what
    the first request made, then use a fresh key."""

    status = 409
    code = "idempotency_answer_sealed"
    retry = False


class SetupMissing(CallerError):
    """This Ops-Center has no organisation yet. Run `opscenter setup` (or `opscenter up`) first."""

    status = 409
    code = "setup_missing"
    retry = False
