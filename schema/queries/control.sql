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
SELECT rid, kind, mode, cost, organisation, kid, person, model, provider, attempts, tokens, usage_source, tokenizer, reason,
       price_version, hold, late, end_user, duration_ms, at
FROM usage_event
WHERE organisation = $1
  AND ($2::uuid IS NULL OR person = $2)
  AND ($3::uuid IS NULL OR rid < $3)
  AND ($4::uuid IS NULL OR rid > $4)
ORDER BY rid DESC, phase DESC
LIMIT $5

-- name: credits_of
-- Of an organisation, and of a person in it.
SELECT coalesce(p.credits - p.debits, 0) AS remaining, o.plan AS tier,
       (SELECT coalesce(sum(a.budget_ucr), 0) FROM membership a WHERE a.organisation = o.id) AS allocated,
       m.budget_ucr AS allocation, CASE WHEN m.budget_ucr IS NOT NULL THEN coalesce(u.used, 0) END AS allocation_used,
       CASE WHEN m.person IS NOT NULL THEN coalesce(w.credits - w.debits, 0) END AS own
FROM organisation o
LEFT JOIN membership m ON m.organisation = o.id AND m.person = $2
LEFT JOIN account p ON p.kind = 'pool' AND p.shard = o.shard AND p.owner = 'o:' || o.id || ':pool'
LEFT JOIN account w ON w.kind = 'pool' AND w.shard = o.shard AND w.owner = 'w:m:' || o.id || ':' || m.person || ':pool'
LEFT JOIN meter_use u ON u.shard = o.shard AND u.owner = 'w:m:' || o.id || ':' || m.person || ':bud'
WHERE o.id = $1

-- name: transaction_page
-- Every movement of the credits of an organisation and its members (of one of them, when named),
-- newest first. A request id carries its time, so both kinds of movement are ordered by one place: a
-- request's id, or the id of a movement's moment. A move within the organisation has two rows.
WITH pools AS (
  SELECT a.id, CASE WHEN a.owner LIKE 'w:m:%' THEN split_part(a.owner, ':', 4)::uuid END AS person
  FROM account a JOIN organisation o ON o.shard = a.shard
  WHERE o.id = $1 AND a.kind = 'pool'
    AND (a.owner = 'o:' || o.id || ':pool' OR a.owner LIKE 'w:m:' || o.id || ':%'))
SELECT place, id, at, type, pool, amount, person, kid, provider, model, tokens, ref
FROM (
  (SELECT * FROM (
    SELECT rid_at(t.at) AS place, encode(t.id, 'hex') || coalesce('.' || a.person, '') AS id, t.at, t.code AS type,
           CASE WHEN a.person IS NULL THEN 'organisation' ELSE 'own' END AS pool,
           CASE WHEN t.credit = a.id THEN t.amount ELSE -t.amount END::bigint AS amount,
           a.person, NULL::text AS kid, NULL::text AS provider, NULL::text AS model,
           NULL::jsonb AS tokens, t.ref
    FROM pools a JOIN transfer t ON a.id IN (t.credit, t.debit)
    WHERE $5::uuid IS NULL OR a.person = $5) AS moved
   WHERE $2::uuid IS NULL OR (place, id) < ($2, $3::text)
   ORDER BY 1 DESC, 2 DESC
   LIMIT $4)
  UNION ALL
  (SELECT u.rid, u.rid::text || '.' || u.phase, u.at, 'usage',
          CASE WHEN a.person IS NULL THEN 'organisation' ELSE 'own' END,
          CASE WHEN u.debit = a.id THEN -u.cost ELSE u.cost END::bigint,
          u.person, u.kid, u.provider, u.model, u.tokens, u.reason
   FROM usage_event u LEFT JOIN pools a ON a.id IN (u.debit, u.credit)
   WHERE u.organisation = $1 AND u.cost > 0 AND ($5::uuid IS NULL OR u.person = $5)
     AND ($2::uuid IS NULL OR (u.rid, u.rid::text || '.' || u.phase) < ($2, $3::text))
   ORDER BY 1 DESC, 2 DESC
   LIMIT $4)
) AS movement
ORDER BY place DESC, id DESC
LIMIT $4

-- name: migration_newest
SELECT max(number) FROM schema_migration
