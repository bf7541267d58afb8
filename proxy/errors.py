"""The tree of errors, by whose fault it is: caller, limit, upstream, us. Imports nothing of ours.

Each leaf has a status, a stable code, and a docstring that is the sentence the client reads;
`detail` in it is filled in where it is raised. A sentence tells cause and cure, never a secret.
"""

from collections.abc import Iterator, Mapping

PAGES = "/errors/"  # where door and control API explain a code


class OpsError(Exception):
    """Something went wrong inside Ops-Center. Try again; if it stays, ask its administrator."""

    status = 500
    code = "internal_error"
    kind = "server_error"  # OpenAI's `type`
    retry: bool | None = None  # told to SDKs by x-should-retry where it is not theirs to guess
    retry_after_s: int | None = None
    counts = False  # as a call: it is the caller's doing that nothing was served
    note = ""  # a further sentence, where it happened with a key of the caller's own

    def __init__(
        self,
        param: str | None = None,
        /,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        **detail: object,
    ) -> None:
        self.param = param
        self.facts: Mapping[str, object] = {}  # told beside the sentence, for programs
        self.headers = headers
        self.detail = detail
        super().__init__(self.sentence)

    @property
    def sentence(self) -> str:
        text = told(type(self))
        text = text.format(**self.detail) if self.detail else text
        return f"{text} {self.note}" if self.note else text

    def shape(self, rid: str) -> dict[str, object]:
        """OpenAI's error object, so that SDKs raise their own typed exceptions."""
        return {
            "message": self.sentence,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
            "request_id": rid,
            "docs": PAGES + self.code,
            **self.facts,
        }

    def fields(self) -> list[tuple[str, str]]:
        """Its headers: when to come again, and whether that is of any use."""
        found = [*self.headers]
        if self.retry_after_s is not None:
            found.append(("retry-after", str(self.retry_after_s)))
        if self.retry is not None:
            found.append(("x-should-retry", "true" if self.retry else "false"))
        if self.status == 401:
            found.append(("www-authenticate", "Bearer"))
        return found


# The caller's -----------------------------------------------------------------


class CallerError(OpsError):
    """The request cannot be served as it is. The docs of the API tell what it takes."""

    status = 400
    code = "invalid_request"
    kind = "invalid_request_error"


class BodyEmpty(CallerError):
    """The request has no body. Send a JSON object with at least `model` and `messages`."""

    code = "body_empty"


class BodyInvalid(CallerError):
    """The body is not valid JSON: {why}. Send one JSON object in UTF-8."""

    code = "body_invalid_json"


class BodyNotObject(CallerError):
    """The body is JSON, but not an object. Send one JSON object."""

    code = "body_not_object"


class BodyTooDeep(CallerError):
    """The body is nested deeper than {limit} levels. Flatten it."""

    code = "body_too_deep"


class BodyTooManyItems(CallerError):
    """The body holds more than {limit} values. Split the request."""

    code = "body_too_many_items"


class BodyTooLarge(CallerError):
    """The body is larger than {limit} bytes. Send less, or ask the administrator for a higher
    limit."""

    status = 413
    code = "body_too_large"


class BodyEncoded(CallerError):
    """Compressed bodies are not taken. Send the body without Content-Encoding."""

    status = 415
    code = "body_encoded"


class BodyCut(CallerError):
    """The connection ended before the whole body had come. Send it again."""

    code = "body_incomplete"


class BodyTooLate(CallerError):
    """The body of the request did not come in time: {why}. Send it again, faster."""

    status = 408
    code = "body_too_late"


class HeadTooLarge(CallerError):
    """The headers of the request are larger than {limit} bytes, or more than 200. Send less."""

    status = 431
    code = "head_too_large"


class HeadTooLate(CallerError):
    """The headers of the request did not arrive within {limit} seconds. Send it again."""

    status = 408
    code = "head_too_late"


class HttpInvalid(CallerError):
    """What was sent is no HTTP/1.1 request: {why}. Check the address, and whether it is https."""

    code = "http_invalid"


class TargetTooLong(CallerError):
    """The path of the request is longer than {limit} bytes. What is long belongs into the body."""

    status = 414
    code = "target_too_long"


class ExpectationUnknown(CallerError):
    """The header Expect holds what is not known here. Send `100-continue` or leave it out."""

    status = 417
    code = "expectation_unknown"


class FieldMissing(CallerError):
    """The field `{name}` is missing. Add it to the body."""

    code = "field_missing"


class FieldInvalid(CallerError):
    """The field `{name}` is not usable: {why}."""

    code = "field_invalid"


class NotCarried(CallerError):
    """{what} cannot be carried to {provider}: it has no place for it, and nothing is dropped
    silently. Leave it out, or choose a model of a provider that has it."""

    code = "not_carried"
    retry = False
    counts = True


class NotKept(CallerError):
    """`{name}` refers to what was stored with an earlier answer, and nothing is stored here. Send
    the earlier items in `input`, with `encrypted_content` of thoughts as it came."""

    code = "not_kept"
    retry = False


class FileNotFound(CallerError):
    """There is no such file here: the id is none of your organisation's, or what it named has been
    deleted. GET /v1/files lists those that there are."""

    status = 404
    code = "file_not_found"
    retry = False


class BatchNotFound(CallerError):
    """There is no such batch here: the id is none of your organisation's. GET /v1/batches lists
    those that there are."""

    status = 404
    code = "batch_not_found"
    retry = False


class ProviderUnclear(CallerError):
    """What is kept lies with one provider, and {why}. Name it in the header X-Ops-Provider, or a
    model of it in `model`."""

    code = "provider_unclear"
    retry = False


class BatchKeyNeeded(CallerError):
    """Batches go by a provider's key of your own: one costs what is known hours later, and credits
    are not held so long. Add a key with `opscenter byok add` and upload the file again, or send its
    requests one by one."""

    status = 403
    code = "batch_key_needed"
    kind = "permission_error"
    retry = False


class FileCreditsNeeded(CallerError):
    """Files lie with the platform's key for those who have credits, and none are left. Add some
    with `opscenter credits grant`, or a provider's key of your own with `opscenter byok add`."""

    status = 402
    code = "file_credits_needed"
    kind = "insufficient_quota"
    retry = False


class ListTooLong(CallerError):
    """None of the {limit} that the provider listed first is your organisation's, and one list reads
    no further. Narrow it with `purpose`, or turn it round with `order`."""

    code = "list_too_long"
    retry = False


class JobCeilingDiffers(CallerError):
    """This job has a ceiling of {ceiling} credits already, and the first one stands. Send the same
    X-Job-Max-Cost, or another X-Job-Id."""

    status = 409
    code = "job_ceiling_differs"
    retry = False


class JobClosed(CallerError):
    """This job is closed, so no further request of it is taken. Take another X-Job-Id."""

    status = 409
    code = "job_closed"
    retry = False


class HeaderInvalid(CallerError):
    """The header `{name}` is not usable: {why}."""

    code = "header_invalid"


class KeyMissing(CallerError):
    """No API key was sent. Send it as `Authorization: Bearer sk_ops_...`, or in X-Service-Key."""

    status = 401
    code = "key_missing"
    kind = "authentication_error"


class KeyInvalid(CallerError):
    """The API key is not valid here: unknown, revoked or expired. Make a new one with
    `opscenter key create`."""

    status = 401
    code = "invalid_api_key"
    kind = "authentication_error"


class TokenInvalid(CallerError):
    """This token is not valid here: {why}. Get a new one with `opscenter token`, or from
    POST /api/v1/auth/token."""

    status = 401
    code = "invalid_token"
    kind = "authentication_error"


class TokenRefused(CallerError):
    """The token of your identity provider is genuine, but not taken here. The reason: "{why}"."""

    status = 403
    code = "token_refused"
    kind = "permission_error"


class TokenExpired(CallerError):
    """This token's time is over. Get a new one with `opscenter token`, or from
    POST /api/v1/auth/token."""

    status = 401
    code = "token_expired"
    kind = "authentication_error"


class KeyBlocked(CallerError):
    """This API key is blocked. Whoever may edit it lets it in again with
    `opscenter key unblock`."""

    status = 403
    code = "key_blocked"
    kind = "permission_error"
    retry = False


class AddressNotAllowed(CallerError):
    """This key may not be used from the address {address}. Call from one that it names, or add it
    with `opscenter key edit --allow-ip`."""

    status = 403
    code = "address_not_allowed"
    kind = "permission_error"
    retry = False


class RouteNotAllowed(CallerError):
    """This key may not call {path}. Use another key, or add the path with
    `opscenter key edit --routes`."""

    status = 403
    code = "route_not_allowed"
    kind = "permission_error"
    retry = False


class ScopeMissing(CallerError):
    """This key does not have the scope {scope}, which this needs. Use another key, or add it with
    `opscenter key edit --scope`."""

    status = 403
    code = "scope_missing"
    kind = "permission_error"
    retry = False


class OrganisationSuspended(CallerError):
    """The organisation of this key is suspended. Ask the administrator of this Ops-Center."""

    status = 403
    code = "organisation_suspended"
    kind = "permission_error"
    retry = False


class ModelNotAllowed(CallerError):
    """This key may not use the model `{model}`. GET /v1/models lists those that it may use."""

    status = 403
    code = "model_not_allowed"
    kind = "permission_error"


class ModelNotFound(CallerError):
    """There is no model `{model}` here. GET /v1/models lists those that there are."""

    status = 404
    code = "model_not_found"


class RouteNotFound(CallerError):
    """Nothing is served at this path. The door serves /v1/chat/completions, /v1/messages,
    /v1/responses, /v1/models and more; the rest of the API has an address of its own."""

    status = 404
    code = "route_not_found"


class MethodNotAllowed(CallerError):
    """This path does not take the method {method}. It takes {allowed}."""

    status = 405
    code = "method_not_allowed"


class PriceUnknown(CallerError):
    """The model `{model}` has no complete price for this kind of call, so it cannot be charged
    exactly. An administrator sets one with `opscenter models price {model} CLASS=DOLLARS ...`."""

    code = "price_unknown"


class ToolUnpriced(PriceUnknown):
    """A tool that the provider of `{model}` runs is charged by `{unit}`, of which this model has no
    price. An administrator sets one with `opscenter models price {model} {unit}=DOLLARS ...`, in
    dollars per million and beside the model's other classes; or leave the tool out."""


class ServiceUnpriced(PriceUnknown):
    """{what} asks the provider of `{model}` for something that has no price here, so it cannot be
    charged exactly. Leave it out, or bring a key of your own with `opscenter byok add`."""


# A limit's --------------------------------------------------------------------


class LimitError(OpsError):
    """A limit refuses this request. GET /v1/me/limits lists those of your key."""

    status = 429
    code = "limit_reached"
    kind = "rate_limit_error"


class InsufficientCredits(LimitError):
    """The credits do not carry this request: it may cost up to {needed} credits and {left} are
    left. Lower `max_tokens`, or add credits with `opscenter credits grant`."""

    status = 402
    code = "insufficient_credits"
    kind = "insufficient_quota"
    retry = False


class BudgetReached(LimitError):
    """The budget of this {owner} does not carry this request: it may cost up to {needed} credits
    and {left} are left. Lower `max_tokens`, or ask for a larger budget."""

    code = "budget_reached"
    kind = "insufficient_quota"
    retry = False


class JobCeilingReached(LimitError):
    """The ceiling of this job does not carry this request: it may cost up to {needed} credits and
    {left} are left of the job. Lower `max_tokens`, or end the job."""

    status = 402
    code = "job_ceiling_reached"
    kind = "insufficient_quota"
    retry = False


class MaxCostExceeded(LimitError):
    """This request may cost up to {needed} credits, and its X-Max-Cost allows {limit}. Lower
    `max_tokens`, send less, or allow more."""

    status = 402
    code = "max_cost_exceeded"
    kind = "insufficient_quota"
    retry = False


class RateLimited(LimitError):
    """This {owner} may use {limit} {what} in {seconds} seconds, and {left} are left. Wait as long
    as Retry-After says, send less, or ask for a higher limit."""

    code = "rate_limited"


class QuotaReached(LimitError):
    """This {owner} has {limit} {what} in this period, and {left} are left. Ask for a higher limit,
    or wait for the next period."""

    code = "quota_reached"
    kind = "insufficient_quota"
    retry = False


class TooManyNamed(LimitError):
    """This organisation has named as many end users and jobs as are remembered at one time. Use
    fewer names, or wait until the oldest are forgotten."""

    code = "too_many_named"
    retry = False


class ParallelLimit(LimitError):
    """Too many requests at one time: {limit} may run for this {owner}. Try again when one has
    ended."""

    code = "parallel_limit"
    retry_after_s = 1


class ConnectionsCrowded(LimitError):
    """Too many connections from one address: {limit} may be open to one worker. Use those that are
    there for the next requests, or close some."""

    code = "connections_crowded"
    retry_after_s = 1


class FailedKeysTooMany(LimitError):
    """Too many keys that are not valid came from this address. Keys that were in use here a moment
    ago go on; others are looked at again in {seconds} seconds."""

    code = "failed_keys_too_many"

    @classmethod
    def after(cls, seconds: int) -> "FailedKeysTooMany":
        made = cls(seconds=seconds)
        made.retry_after_s = seconds
        return made


# An upstream's ------------------------------------------------------------------


class UpstreamError(OpsError):
    """The provider did not answer as it should. Try again, or take another model."""

    status = 502
    code = "upstream_error"


class UpstreamUnreachable(UpstreamError):
    """The provider of `{model}` could not be reached: {why}. Try again; administrators see more
    with `opscenter doctor`."""

    status = 503
    code = "upstream_unreachable"
    retry_after_s = 2


class UpstreamTimeout(UpstreamError):
    """The provider of `{model}` did not answer in time ({phase}). Try again, or ask for less."""

    status = 504
    code = "upstream_timeout"


class UpstreamBusy(UpstreamError):
    """All {limit} connections to the provider of `{model}` are in use and {waiting} requests wait.
    Try again shortly."""

    status = 503
    code = "upstream_pool_exhausted"
    retry_after_s = 1


class UpstreamBroken(UpstreamError):
    """The provider of `{model}` broke its answer off or sent what cannot be read: {why}. What came
    was charged as it is listed in the usage. Try again, or take another model."""

    code = "upstream_broken"


class ErrorInStream(UpstreamError):
    """The provider of `{model}` broke its answer off with an error of its own: "{message}"."""

    code = "error_in_stream"


class UpstreamRefused(UpstreamError):
    """The provider of `{model}` answered with status {status}: {message}"""

    code = "upstream_refused"

    def __init__(self, passed: int, *, status: int, model: str, message: str) -> None:
        self.status = passed
        self.counts = passed < 500 and passed != 429  # their limits are not the caller's doing
        super().__init__(status=status, model=model, message=message)


class UpstreamKeyRefused(UpstreamError):
    """The provider of `{model}` does not accept the key that this Ops-Center holds for it. An
    administrator can mend it with `opscenter provider add`."""

    code = "upstream_key_refused"
    retry = False


class OwnKeyRefused(UpstreamError):
    """The provider refused {name}, a key that was entered here for it: status {status}. This
    Ops-Center's own key was not used instead. Its owner can look with `opscenter byok test`, give
    another one, or allow falling back."""

    status = 403
    code = "own_key_refused"
    kind = "permission_error"
    retry = False


class OwnKeyUnusable(UpstreamError):
    """{name}, a key that was entered here for a provider, cannot be used: {why}. This Ops-Center's
    own key was not used instead. Its owner can enter it again with `opscenter byok add`."""

    status = 403
    code = "own_key_unusable"
    kind = "permission_error"
    retry = False


# Ours -----------------------------------------------------------------------------


class NotReady(OpsError):
    """This Ops-Center cannot check credits and limits just now, so it admits nothing. Try again in
    a moment."""

    status = 503
    code = "not_ready"
    retry_after_s = 2


class Overloaded(OpsError):
    """This worker has as much to do as it takes in at one time. Try again in a moment."""

    status = 503
    code = "overloaded"
    retry_after_s = 1


class Stopping(OpsError):
    """This worker is stopping. Try again; another one will answer."""

    status = 503
    code = "stopping"
    retry_after_s = 1


class ClientGone(OpsError):
    """The client left before the answer was complete."""

    status = 499
    code = "client_gone"
    counts = True


# All of them ----------------------------------------------------------------------


def told(leaf: type[OpsError]) -> str:
    """Its sentence, with what is filled in later in braces."""
    return " ".join((leaf.__doc__ or "").split())


def tried_again(leaf: type[OpsError]) -> bool:
    """Whether SDKs send the request again by themselves."""
    if leaf.retry is not None:
        return leaf.retry
    return leaf.status in (408, 409, 429) or leaf.status >= 500


def explained(code: str) -> str | None:
    """What a code means, as a page; None where nobody answers with it."""
    found = [leaf for leaf in leaves(everywhere=True) if leaf.code == code]
    parts = [
        f"{code}: status {leaf.status}, type {leaf.kind}\n\n{told(leaf)}\n\n"
        f"SDKs {'try' if tried_again(leaf) else 'do not try'} this again by themselves.\n"
        for leaf in found
    ]
    return "\n".join(dict.fromkeys(parts)) or None


def leaves(root: type[OpsError] = OpsError, everywhere: bool = False) -> Iterator[type[OpsError]]:
    """Every error that the door can answer with, in the order of this file; `everywhere`, also
    those that a plane above has added.
    """
    yield root
    for child in root.__subclasses__():
        if everywhere or child.__module__ == __name__:
            yield from leaves(child, everywhere)
