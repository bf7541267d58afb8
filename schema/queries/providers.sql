-- Providers and their keys: the platform's, and those that people and organisations bring.

-- name: provider_list
SELECT v.name, v.kind, v.adapter, v.base_url, v.secret_last4, v.env_last4, v.enabled, v.created_at,
       t.result AS test, t.said AS test_said, t.at AS tested_at
FROM provider v LEFT JOIN key_test t ON t.subject = 'provider:' || v.name
WHERE $1::text IS NULL OR v.name = $1
ORDER BY v.name

-- name: provider_add
INSERT INTO provider (name, kind, adapter, base_url, quirks, keyed, secret, secret_last4, env_secret, env_last4)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (name) DO NOTHING
RETURNING name

-- name: provider_show
SELECT name, kind, adapter, base_url, enabled, secret, secret_last4, env_secret, env_last4
FROM provider WHERE name = $1 FOR NO KEY UPDATE

-- name: provider_edit
-- What a test has found was of the key and the address that there were.
WITH test AS (
  DELETE FROM key_test WHERE subject = 'provider:' || $1 AND EXISTS (
    SELECT FROM provider WHERE name = $1 AND (base_url, secret, env_last4) IS DISTINCT FROM ($2, $5, $8)))
UPDATE provider SET base_url = $2, enabled = $3, keyed = $4, secret = $5, secret_last4 = $6, env_secret = $7,
                    env_last4 = $8, adapter = $9
WHERE name = $1

-- name: provider_remove
WITH test AS (DELETE FROM key_test WHERE subject = 'provider:' || $1)
DELETE FROM provider WHERE name = $1 RETURNING name

-- name: provider_environment
SELECT name, kind, base_url, env_secret FROM provider

-- name: provider_environment_put
WITH test AS (
  DELETE FROM key_test WHERE subject = 'provider:' || $1 AND EXISTS (
    SELECT FROM provider WHERE name = $1 AND secret IS NULL))
UPDATE provider SET env_secret = $2, env_last4 = $3 WHERE name = $1

-- name: key_test_put
INSERT INTO key_test (subject, result, said) VALUES ($1, $2, $3)
ON CONFLICT (subject) DO UPDATE SET result = excluded.result, said = excluded.said, at = now()

-- name: byok_list
-- The organisation's keys and those of one member (null: of all).
SELECT b.*, t.result AS test, t.said AS test_said, t.at AS tested_at, b.enabled AND o.included AS in_force
FROM byok_key b JOIN byok_organisation o ON o.id = b.organisation LEFT JOIN key_test t ON t.subject = 'byok:' || b.id
WHERE b.organisation = $1 AND ($2::uuid IS NULL OR b.person IS NULL OR b.person = $2)
  AND ($3::uuid IS NULL OR b.id = $3)
ORDER BY b.person NULLS FIRST, b.kind

-- name: byok_show
SELECT * FROM byok_key
WHERE id = $1 AND organisation = $2 AND ($3::uuid IS NULL OR person IS NULL OR person = $3) FOR NO KEY UPDATE

-- name: byok_add
INSERT INTO byok_key (id, organisation, person, kind, name, adapter, base_url, quirks, models, secret, last4, fallback)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT DO NOTHING
RETURNING id

-- name: byok_edit
WITH test AS (
  DELETE FROM key_test WHERE subject = 'byok:' || $1::uuid AND EXISTS (
    SELECT FROM byok_key WHERE id = $1 AND (base_url, secret) IS DISTINCT FROM ($3, $5)))
UPDATE byok_key SET name = $2, base_url = $3, models = $4, secret = $5, last4 = $6, fallback = $7, enabled = $8,
                    adapter = $9
WHERE id = $1

-- name: byok_remove
WITH test AS (DELETE FROM key_test WHERE subject = 'byok:' || $1::uuid)
DELETE FROM byok_key WHERE id = $1

-- name: byok_included
SELECT plan, included FROM byok_organisation WHERE id = $1

-- name: byok_owners
SELECT organisation, coalesce(array_agg(DISTINCT person) FILTER (WHERE person IS NOT NULL), '{}') AS people
FROM byok_key WHERE organisation = ANY($1::uuid[]) GROUP BY organisation ORDER BY organisation

-- name: byok_served
-- Whether any model is served here that a key of this kind is good for.
SELECT EXISTS (SELECT FROM model_place p JOIN model m ON m.id = p.model WHERE p.kind = $1 AND m.enabled AND m.byok)
