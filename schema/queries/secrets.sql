-- What is sealed, to be sealed anew under another root key. Columns that bear it, and nothing else.

-- name: reseal_lock
-- Two of them at one time would wait for each other's rows.
SELECT pg_advisory_xact_lock(hashtext('opscenter.reseal'))

-- name: reseal_providers
SELECT name, secret, env_secret FROM provider WHERE coalesce(secret, env_secret) IS NOT NULL
ORDER BY name FOR NO KEY UPDATE

-- name: reseal_provider_put
UPDATE provider SET secret = coalesce($2, secret), env_secret = coalesce($3, env_secret) WHERE name = $1

-- name: reseal_plugins
SELECT name, config FROM plugin WHERE config ? 'sealed' ORDER BY name FOR NO KEY UPDATE

-- name: reseal_plugin_put
-- The configuration is the same, so it keeps its version.
UPDATE plugin SET config = $2 WHERE name = $1

-- name: reseal_byok
SELECT id, organisation, person, secret FROM byok_key WHERE $1::uuid IS NULL OR id > $1
ORDER BY id LIMIT $2 FOR NO KEY UPDATE

-- name: reseal_byok_put
UPDATE byok_key SET secret = $2 WHERE id = $1

-- name: reseal_look
SELECT id, secret FROM byok_key WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT $2
