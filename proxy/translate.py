"""Which deployments can take a call, and what is sent to them: as it came, or said anew in their
dialect. Nothing is dropped: what a provider has no place for is refused before anything is held.
"""

from dataclasses import replace

import orjson

from proxy.costs.charge import free
from proxy.dialects.clients import CLIENTS
from proxy.dialects.conversation import Conversation
from proxy.errors import NotCarried
from proxy.providers.catalog import ADAPTERS
from proxy.types import Call, Deployment, Model, Offer, Ticket

COUNTED_HERE = "count_tokens"  # where the provider cannot


def carried(call: Call, model: Model, offer: Offer) -> tuple[Call, Offer]:
    """The deployments that have a place for all that the call says; raises where none has."""
    if call.free:
        offer = replace(offer, price=free(offer.price))
    for one in offer.deployments:
        if call.dialect not in ADAPTERS[one.adapter].native:
            break
    else:
        return call, offer
    if call.dialect == COUNTED_HERE:
        return call, offer
    client = CLIENTS.get(call.dialect)
    if client is not None:
        call = _said(call, model, client.read(call.fields))
    found, refused = [], list[NotCarried]()
    for deployment in offer.deployments:
        try:
            if call.dialect not in ADAPTERS[deployment.adapter].native:
                _written(deployment, call)
            found.append(deployment)
        except NotCarried as problem:
            refused.append(problem)
    if not found:
        raise refused[0]
    return call, replace(offer, deployments=tuple(found))


def said_anew(call: Call, ticket: Ticket) -> Call:
    """The call as it was admitted."""
    if ticket.conversation is None:
        return call
    return _said(call, ticket.model, ticket.conversation)


def _said(call: Call, model: Model, conversation: Conversation) -> Call:
    return replace(
        call,
        conversation=conversation,
        model_output_max=model.output_max,
        context_max=model.context_max,
    )


def is_native(deployment: Deployment, call: Call) -> bool:
    return call.dialect in ADAPTERS[deployment.adapter].native


def body_of(deployment: Deployment, call: Call) -> bytes:
    adapter = ADAPTERS[deployment.adapter]
    if call.dialect in adapter.native:
        return adapter.body(deployment, call)
    return orjson.dumps(_written(deployment, call))


def _written(deployment: Deployment, call: Call) -> object:
    speech, conversation = ADAPTERS[deployment.adapter].speech, call.conversation
    if speech is None or conversation is None:
        raise NotCarried(what=f"A call of {call.path}", provider=deployment.provider)
    if call.lowered_to is not None:
        conversation = replace(conversation, output_max=call.lowered_to)
    return speech.write(
        conversation,
        model=deployment.upstream_model,
        output_max=call.model_output_max,
        stream=call.stream,
        context_max=call.context_max,
    )
