"""The control plane: owns the truth in Postgres, publishes it to Redis, answers administrators.

app assembles, api/ answers, auth decides who may, token_keys sign tokens, idp knows those of a
company's own provider, api/write makes every change once and on the record, publish and drain carry
it to the proxies, migrate and bootstrap make the first day, cli/ is the command.
"""
