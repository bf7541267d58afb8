-- The ledger, its way to Redis and back: grants, usage, outboxes, verification.

-- name: account_find
SELECT id FROM account WHERE kind = $1 AND shard = $2 AND owner = $3

-- name: account_ids
SELECT a.kind, a.shard, a.owner, a.id
FROM unnest($1::text[], $2::smallint[], $3::text[]) AS n (kind, shard, owner)
JOIN account a ON a.kind = n.kind AND a.shard = n.shard AND a.owner = n.owner

-- name: account_add
INSERT INTO account (kind, shard, owner) VALUES ($1, $2, $3)
ON CONFLICT (kind, shard, owner) DO NOTHING

-- name: organisation_shard
SELECT shard FROM organisation WHERE id = $1

-- name: shard_of_organisation
SELECT s.id, s.outseq FROM shard s JOIN organisation o ON o.shard = s.id WHERE o.id = $1

-- name: shard_lock
-- Grants and drains take the shard first and accounts after it, so that they never wait for each other in a ring.
SELECT id, cursor_ms, cursor_seq, generation, outseq FROM shard WHERE id = ANY($1::smallint[]) ORDER BY id FOR UPDATE

-- name: shard_list
SELECT id, cursor_ms, cursor_seq, generation, outseq FROM shard ORDER BY id

-- name: shard_move
-- Compare and set: no row for a shard whose cursor another drain has moved since it was read.
UPDATE shard s SET cursor_ms = m.to_ms, cursor_seq = m.to_seq
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
  AS m (id, from_ms, from_seq, to_ms, to_seq)
WHERE s.id = m.id AND s.cursor_ms = m.from_ms AND s.cursor_seq = m.from_seq
RETURNING s.id

-- name: shard_outseq
UPDATE shard SET outseq = outseq + $2 WHERE id = $1 RETURNING outseq

-- name: shard_generation
UPDATE shard SET generation = generation + 1 WHERE id = ANY($1::smallint[]) RETURNING id, generation

-- name: transfer_add
INSERT INTO transfer (id, debit, credit, amount, code, ref, actor) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO NOTHING
RETURNING id

-- name: transfer_get
SELECT t.amount, t.code, t.ref, a.owner FROM transfer t JOIN account a ON a.id = t.credit WHERE t.id = $1

-- name: refund_of
-- What a request has cost with its correction, and the pool that paid.
SELECT sum(CASE WHEN a.id = u.debit THEN u.cost ELSE -u.cost END)::bigint AS cost, a.owner
FROM usage_event u JOIN account a ON a.id IN (u.debit, u.credit) AND a.kind = 'pool'
WHERE u.rid = $1
GROUP BY a.owner
HAVING sum(CASE WHEN a.id = u.debit THEN u.cost ELSE -u.cost END) > 0

-- name: outflow_lock
-- Held from before the reservation until the commit: while it is held, nobody gives the credits back.
SELECT pg_advisory_xact_lock(hashtextextended('opscenter.outflow ' || $1, 0))

-- name: outflow_try
SELECT pg_try_advisory_xact_lock(hashtextextended('opscenter.outflow ' || $1, 0))

-- name: outflow_waits
-- Whether the reservation is booked and Redis has still to learn it.
SELECT EXISTS (SELECT FROM outbox_redis WHERE shard = $1 AND seq > $2 AND hold = $3)

-- name: account_move
-- Totals move once per account and batch, in order of id.
UPDATE account a SET debits = a.debits + d.debits, credits = a.credits + d.credits
FROM (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS u (id, debits, credits) ORDER BY id) d
WHERE a.id = d.id

-- name: account_lock
SELECT id FROM account WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE

-- name: account_balance
SELECT credits - debits AS balance FROM account WHERE id = $1

-- name: pool_balance
SELECT a.credits - a.debits AS balance FROM organisation o
JOIN account a ON a.kind = 'pool' AND a.shard = o.shard AND a.owner = $2
WHERE o.id = $1

-- name: outbox_redis_add
INSERT INTO outbox_redis (shard, seq, owner, field, delta, window_start, hold, ref)
SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::text[])

-- name: outbox_redis_next
SELECT seq, owner, field, delta, window_start, hold FROM outbox_redis WHERE shard = $1 AND seq > $2 ORDER BY seq LIMIT $3

-- name: outbox_redis_prune
DELETE FROM outbox_redis WHERE shard = $1 AND seq <= $2 AND at < now() - interval '7 days'

-- name: outbox_record_add
INSERT INTO outbox_record (kind, id) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING

-- name: outbox_record_take
-- Taken and published in one transaction: a change that comes meanwhile waits and queues the record again. One
-- that came before and is not committed has locked its row: that one stays, for whoever made the change.
WITH taken AS (
  SELECT kind, id FROM outbox_record WHERE kind = $1 AND id = ANY($2::text[]) FOR UPDATE SKIP LOCKED)
DELETE FROM outbox_record o USING taken t WHERE o.kind = t.kind AND o.id = t.id

-- name: outbox_record_list
SELECT kind, id FROM outbox_record ORDER BY at LIMIT $1

-- name: usage_booked
SELECT rid, phase, kind, cost FROM usage_event WHERE rid = ANY($1::uuid[])

-- name: usage_known
-- Which of these entries are booked or put aside. An orphan does not stand for a charge.
SELECT e.nth
FROM unnest($1::smallint[], $2::text[], $3::uuid[], $4::boolean[]) WITH ORDINALITY AS e (shard, sid, rid, orphan, nth)
WHERE EXISTS (SELECT FROM usage_event u WHERE u.rid = e.rid AND (u.kind <> 'orphan' OR e.orphan))
   OR EXISTS (SELECT FROM dead_letter d WHERE d.shard = e.shard AND d.sid = e.sid)

-- name: usage_partitions
SELECT usage_event_partitions(2)

-- name: dead_letter_add
INSERT INTO dead_letter (shard, sid, entry, reason) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING

-- name: record_keys
SELECT r.*, k.pay, k.scopes, b.keys AS own FROM api_key_record r JOIN api_key k ON k.kid = r.kid
LEFT JOIN byok_told b ON b.organisation = r.organisation AND b.person = r.person
WHERE r.kid = ANY($1::text[])

-- name: record_keys_of_shards
SELECT r.*, k.pay, k.scopes, b.keys AS own FROM api_key_record r JOIN api_key k ON k.kid = r.kid
LEFT JOIN byok_told b ON b.organisation = r.organisation AND b.person = r.person
WHERE r.shard = ANY($1::smallint[])

-- name: record_organisations
SELECT r.*, b.keys AS own FROM organisation_record r
LEFT JOIN byok_told b ON b.organisation = r.id AND b.person IS NULL
WHERE r.id = ANY($1::uuid[])

-- name: record_organisations_of_shards
SELECT r.*, b.keys AS own FROM organisation_record r
LEFT JOIN byok_told b ON b.organisation = r.id AND b.person IS NULL
WHERE r.shard = ANY($1::smallint[])

-- name: pools_of_shard
SELECT owner, credits - debits AS balance FROM account WHERE kind = 'pool' AND shard = $1

-- name: pools_of_shards
SELECT shard, owner, credits - debits AS balance FROM account
WHERE kind = 'pool' AND shard = ANY($1::smallint[])

-- name: meter_use_of_shards
-- But for those that requests name: their counts end in Redis with them, the ledger keeps them.
SELECT shard, owner, unit, window_start, used FROM meter_use_open
WHERE shard = ANY($1::smallint[]) AND owner NOT LIKE 'w:j:%' AND owner NOT LIKE 'w:e:%'

-- name: budgets_of_shards
-- Those that were used, and those that have a limit and no use yet.
SELECT coalesce(u.shard, l.shard) AS shard, coalesce(u.owner, l.owner) AS owner, coalesce(u.unit, l.unit) AS unit,
       coalesce(u.window_start, 0) AS window_start, coalesce(u.used, 0) AS used
FROM meter_use_open u FULL JOIN meter_limited l ON l.shard = u.shard AND l.owner = u.owner
WHERE coalesce(u.shard, l.shard) = ANY($1::smallint[])

-- name: meter_use_add
INSERT INTO meter_use AS m (shard, owner, unit, window_start, used)
SELECT * FROM unnest($1::smallint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])
  AS u (shard, owner, unit, window_start, used) ORDER BY shard, owner, window_start
ON CONFLICT (shard, owner, window_start) DO UPDATE SET used = m.used + excluded.used, used_on = current_date

-- name: meter_use_prune
-- Counts without use for 100 days that no request can count on: of windows that are over, of end users and
-- jobs that are forgotten, of limits that were taken away, of revoked keys.
DELETE FROM meter_use d USING (
  SELECT m.shard, m.owner, m.window_start FROM meter_use m
  LEFT JOIN limit_rule l ON l.id = substring(m.owner FROM ':l([0-9]{1,18})$')::bigint
  LEFT JOIN api_key k ON k.kid = split_part(m.owner, ':', 2) AND m.owner LIKE 'k:%'
  WHERE m.used_on < current_date - 100
    AND (m.window_start > 0 OR m.owner LIKE 'w:e:%' OR k.status = 'revoked'
         OR (l.id IS NULL AND m.owner ~ ':l[0-9]{1,18}$')
         OR (m.owner LIKE 'w:j:%' AND NOT EXISTS (
           SELECT FROM job j
           WHERE j.organisation::text = split_part(m.owner, ':', 3) AND j.id = split_part(m.owner, ':', 4))))
  LIMIT $1 FOR UPDATE OF m SKIP LOCKED) p
WHERE d.shard = p.shard AND d.owner = p.owner AND d.window_start = p.window_start
RETURNING d.owner

-- name: key_use_prune
DELETE FROM key_use WHERE kid IN (
  SELECT u.kid FROM key_use u LEFT JOIN api_key k ON k.kid = u.kid
  WHERE u.used_at < now() - interval '100 days' AND k.status IS DISTINCT FROM 'active' AND k.status IS DISTINCT FROM 'blocked'
  LIMIT $1)
RETURNING kid

-- name: limit_gone_list
-- Whose last request has ended long ago.
SELECT rule, shard, owner FROM limit_gone WHERE at < now() - interval '1 day' ORDER BY at LIMIT $1

-- name: limit_gone_done
DELETE FROM limit_gone g USING unnest($1::bigint[], $2::text[]) AS u (rule, owner)
WHERE g.rule = u.rule AND g.owner = u.owner

-- name: key_used
-- Sign-ins count with their person, not as keys.
INSERT INTO key_use AS k (kid, used_at)
SELECT kid, to_timestamp(ms / 1000.0) FROM unnest($1::text[], $2::bigint[]) AS u (kid, ms)
WHERE length(kid) <= 10 ORDER BY kid
ON CONFLICT (kid) DO UPDATE SET used_at = greatest(k.used_at, excluded.used_at)

-- name: snapshot_version
SELECT version FROM snapshot

-- name: snapshot_models
-- Every model that is switched on, with its newest price and its places.
SELECT m.id, m.context_max, m.output_max, m.output_assumed, m.thinks, m.byok, extract(epoch FROM m.created_at)::bigint AS created,
       c.name, c.takes, c.gives,
       (SELECT jsonb_build_object('version', p.version, 'rates', p.rates, 'tiers', p.tiers, 'factor_ppm', p.factor_ppm)
        FROM price p WHERE p.model = m.id ORDER BY p.version DESC LIMIT 1) AS price,
       coalesce((SELECT jsonb_agg(jsonb_build_object(
            'id', d.id, 'provider', v.name, 'adapter', v.adapter, 'base_url', v.base_url,
            'upstream_model', d.upstream_model, 'quirks', v.quirks,
            'secret', convert_from(coalesce(v.secret, v.env_secret), 'UTF8')) ORDER BY d.rank, d.id)
          FROM deployment d JOIN provider v ON v.name = d.provider
          WHERE d.model = m.id AND d.enabled AND v.enabled
            AND (NOT v.keyed OR coalesce(v.secret, v.env_secret) IS NOT NULL)), '[]') AS deployments,
       (SELECT jsonb_agg(jsonb_build_array(kind, upstream_model) ORDER BY kind = 'openrouter', nth, kind)
        FROM model_place WHERE model = m.id) AS places
FROM model m LEFT JOIN catalogue c ON c.id = m.id WHERE m.enabled ORDER BY m.id

-- name: verify_double_entry
-- Every account's totals against the rows they were made of.
WITH moved AS (
  SELECT id, sum(debits) AS debits, sum(credits) AS credits FROM (
    SELECT debit AS id, amount::numeric AS debits, 0::numeric AS credits FROM transfer
    UNION ALL SELECT credit, 0, amount FROM transfer
    UNION ALL SELECT debit, cost, 0 FROM usage_event
    UNION ALL SELECT credit, 0, cost FROM usage_event) rows
  GROUP BY id)
SELECT a.id, a.kind, a.shard, a.owner, a.debits, a.credits,
       coalesce(m.debits, 0)::bigint AS moved_debits, coalesce(m.credits, 0)::bigint AS moved_credits
FROM account a FULL JOIN moved m ON m.id = a.id
WHERE a.id IS NULL OR a.debits <> coalesce(m.debits, 0) OR a.credits <> coalesce(m.credits, 0)
LIMIT 100

-- name: verify_sums
SELECT coalesce(sum(debits), 0)::text AS debits, coalesce(sum(credits), 0)::text AS credits, count(*) AS accounts FROM account

-- name: verify_usage
-- Rows to be priced again from their tokens and the price they were charged by.
SELECT u.rid, u.kind, u.mode, u.cost, u.tokens, u.price_version, p.rates, p.tiers, p.factor_ppm
FROM usage_event u LEFT JOIN price p ON p.version = u.price_version
WHERE u.kind = 'settled' AND u.rid > $1
ORDER BY u.rid LIMIT $2

-- name: verify_meters
-- Counts against the rows that they were made of; a correction that gives back counts down. One that was
-- forgotten (meter_use_prune) has no row, or one that began anew.
WITH counted AS (
  SELECT u.shard, split_part(b.name, '@', 1) AS owner,
         coalesce(nullif(split_part(b.name, '@', 3), ''), '0')::bigint AS window_start, u.at,
         CASE split_part(b.name, '@', 2) WHEN 'call' THEN u.calls WHEN 'tok' THEN u.counted_tokens
              ELSE CASE WHEN a.kind = 'pool' THEN u.cost ELSE -u.cost END END AS value
  FROM usage_event u JOIN account a ON a.id = u.debit, unnest(u.budgets) AS b (name)),
total AS (
  SELECT c.shard, c.owner, c.window_start, max(c.at) FILTER (WHERE c.value <> 0) AS newest,
         coalesce(sum(c.value) FILTER (WHERE m.owner IS NULL OR c.at >= m.begun_at), 0) AS used
  FROM counted c
  LEFT JOIN meter_use m ON m.shard = c.shard AND m.owner = c.owner AND m.window_start = c.window_start
  GROUP BY 1, 2, 3)
SELECT coalesce(m.owner, t.owner) AS owner, coalesce(m.used, 0) AS used, coalesce(t.used, 0)::bigint AS counted
FROM meter_use m
FULL JOIN total t ON t.shard = m.shard AND t.owner = m.owner AND t.window_start = m.window_start
WHERE coalesce(m.used, 0) <> coalesce(t.used, 0)
  AND (m.owner IS NOT NULL OR t.newest > now() - interval '99 days')
LIMIT 100

-- name: verify_orphans
SELECT count(*) AS orphans, coalesce(sum(cost), 0)::bigint AS cost FROM usage_event WHERE kind = 'orphan'

-- name: verify_dead_letters
SELECT count(*) FROM dead_letter WHERE resolved_at IS NULL

-- name: verify_outbox
-- Rows of each shard's outbox must be 1, 2, 3... up to outseq; old ones are pruned from the front.
SELECT s.id, s.outseq, count(o.seq) AS rows, min(o.seq) AS first, max(o.seq) AS last
FROM shard s LEFT JOIN outbox_redis o ON o.shard = s.id
GROUP BY s.id, s.outseq
HAVING s.outseq <> coalesce(max(o.seq), s.outseq) OR count(o.seq) <> coalesce(max(o.seq) - min(o.seq) + 1, 0)

-- name: verify_waiting
-- Rows of the outbox that Redis may not have yet; applied ones are told apart by their number.
SELECT seq, owner, field, delta, window_start FROM outbox_redis WHERE shard = $1 ORDER BY seq DESC LIMIT 10000

-- name: drain_enter
-- Every drain holds this while it runs, so that they can be counted.
SELECT pg_advisory_lock_shared(hashtext('opscenter.drain'), 64)

-- name: drain_count
SELECT count(*) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND objid = 64
  AND classid = (hashtext('opscenter.drain')::bigint & 4294967295)::oid
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())

-- name: drain_claim
SELECT shard FROM unnest($1::int[]) AS shard WHERE pg_try_advisory_lock(hashtext('opscenter.drain'), shard) LIMIT $2

-- name: drain_release
SELECT pg_advisory_unlock(hashtext('opscenter.drain'), shard) FROM unnest($1::int[]) AS shard

-- name: shard_cursors
SELECT id, generation, cursor_ms, cursor_seq FROM shard WHERE id = ANY($1::smallint[])

-- name: shard_raise
-- What Redis holds of every shard is out of date from now on: the drains fill it anew.
UPDATE shard SET generation = generation + 1 RETURNING id, generation

-- name: explain_usage
SELECT u.*, d.kind AS debit_kind, d.owner AS debit_owner, c.kind AS credit_kind, c.owner AS credit_owner,
       p.rates, p.tiers, p.factor_ppm, o.name AS organisation_name
FROM usage_event u
JOIN account d ON d.id = u.debit
JOIN account c ON c.id = u.credit
LEFT JOIN price p ON p.version = u.price_version
LEFT JOIN organisation o ON o.id = u.organisation
WHERE u.rid = $1 ORDER BY u.phase
