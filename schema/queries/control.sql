-- The control plane's own: migrations, audit, idempotent writes, the outbox of records, health.

-- name: migration_table
CREATE TABLE IF NOT EXISTS schema_migration (
  number     integer PRIMARY KEY,
  name       text NOT NULL,
  checksum   text NOT NULL,  -- SHA-256 of the file, in hexadecimal
  applied_at timestamptz NOT NULL DEFAULT now()
)

-- name: migration_lock
-- Held for the session, so that two starts at one time apply nothing twice.
SELECT pg_advisory_lock(hashtext('opscenter.migrate'))

-- name: migration_unlock
SELECT pg_advisory_unlock(hashtext('opscenter.migrate'))

-- name: migration_state
-- Whether the record of migrations is there, and whether tables of ours are.
SELECT to_regclass('schema_migration') IS NOT NULL AS recorded,
       to_regclass('organisation') IS NOT NULL AS populated

-- name: migration_list
SELECT number, name, checksum, applied_at FROM schema_migration ORDER BY number

-- name: migration_add
INSERT INTO schema_migration (number, name, checksum) VALUES ($1, $2, $3)

-- name: audit_add
INSERT INTO audit (actor, action, object, organisation, detail) VALUES ($1, $2, $3, $4, $5)

-- name: idempotency_lock
-- Two requests under one key at one time: the second waits for the first one's answer.
SELECT pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2, 0))

-- name: idempotency_get
SELECT digest, status, body FROM idempotency
WHERE actor = $1 AND key = $2 AND at > now() - interval '24 hours'

-- name: idempotency_put
INSERT INTO idempotency (actor, key, digest, status, body) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (actor, key) DO UPDATE
SET digest = excluded.digest, status = excluded.status, body = excluded.body, at = now()

-- name: idempotency_prune
DELETE FROM idempotency WHERE at <= now() - interval '24 hours'

-- name: outbox_depth
SELECT (SELECT count(*) FROM outbox_record) AS records,
       (SELECT coalesce(extract(epoch FROM now() - min(at)), 0)::float8 FROM outbox_record) AS lag_s,
       (SELECT count(*) FROM dead_letter WHERE resolved_at IS NULL) AS dead_letters

-- name: app_role
SELECT true FROM pg_roles WHERE rolname = 'opscenter_app' AND pg_has_role(rolname, 'MEMBER')

-- name: server_version
SELECT current_setting('server_version') AS version

-- name: usage_page
-- Usage of an organisation (and of one person, when named), newest first: before a request or after one.
SELECT rid, kind, cost, organisation, kid, person, model, provider, attempts, tokens, usage_source, reason,
       price_version, hold, late, end_user, duration_ms, at
FROM usage_event
WHERE organisation = $1
  AND ($2::uuid IS NULL OR person = $2)
  AND ($3::uuid IS NULL OR rid < $3)
  AND ($4::uuid IS NULL OR rid > $4)
ORDER BY rid DESC, phase DESC
LIMIT $5

-- name: transaction_page
-- Every movement of an organisation's credits, newest first. A request id carries its time, so both
-- kinds of movement are ordered by one place: a request's id, or the id of a movement's moment.
SELECT place, id, at, type, amount, person, kid, provider, model, tokens, ref
FROM (
  (SELECT rid_at(t.at) AS place, encode(t.id, 'hex') AS id, t.at, t.code AS type,
          CASE WHEN t.credit = a.id THEN t.amount ELSE -t.amount END::bigint AS amount,
          NULL::uuid AS person, NULL::text AS kid, NULL::text AS provider, NULL::text AS model,
          NULL::jsonb AS tokens, t.ref
   FROM account a JOIN transfer t ON a.id IN (t.credit, t.debit)
   WHERE a.kind = 'pool' AND a.owner = 'o:' || $1::uuid::text || ':pool'
     AND ($2::uuid IS NULL OR (rid_at(t.at), encode(t.id, 'hex')) < ($2, $3::text))
   ORDER BY 1 DESC, 2 DESC
   LIMIT $4)
  UNION ALL
  (SELECT u.rid, u.rid::text || '.' || u.phase, u.at, 'usage', -u.cost::bigint,
          u.person, u.kid, u.provider, u.model, u.tokens, u.reason
   FROM usage_event u
   WHERE u.organisation = $1 AND u.cost > 0
     AND ($2::uuid IS NULL OR (u.rid, u.rid::text || '.' || u.phase) < ($2, $3::text))
   ORDER BY 1 DESC, 2 DESC
   LIMIT $4)
) AS movement
ORDER BY place DESC, id DESC
LIMIT $4

-- name: migration_newest
SELECT max(number) FROM schema_migration
