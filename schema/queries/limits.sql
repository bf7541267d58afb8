-- Limits of every level, and the teams and plans that some belong to.

-- name: organisation_share
-- Held while a key or a sign-in is made: who changes limits waits, and then finds it.
SELECT id FROM organisation WHERE id = $1 FOR SHARE

-- name: limit_list
-- Those of an organisation with those of its plan, but for revoked keys, each with its newest count; of a
-- plan alone where $1 is null.
SELECT l.*, o.shard, u.used, u.window_start
FROM limit_rule l
LEFT JOIN organisation o ON o.id = $1
LEFT JOIN LATERAL (
  SELECT used, window_start FROM meter_use m
  WHERE m.shard = o.shard
    AND m.owner = CASE l.level WHEN 'key' THEN 'k:' || l.subject
                  WHEN 'person' THEN 'w:m:' || o.id || ':' || l.subject WHEN 'team' THEN 'w:t:' || l.subject ELSE 'o:' || o.id END || ':l' || l.id
  ORDER BY window_start DESC LIMIT 1) u ON true
WHERE (l.organisation = $1 OR (l.level = 'plan' AND l.subject = coalesce($2, o.plan)))
  AND ($3::text IS NULL OR l.level = $3) AND ($4::text IS NULL OR l.subject = $4)
  AND l.id > $5
  AND NOT EXISTS (SELECT FROM api_key k WHERE l.level = 'key' AND k.kid = l.subject AND k.status = 'revoked')
ORDER BY l.id
LIMIT $6

-- name: limit_get
SELECT * FROM limit_rule WHERE id = $1 AND organisation IS NOT DISTINCT FROM $2

-- name: limit_count
SELECT count(*) FILTER (WHERE level = $2 AND subject = $3) AS of_subject,
       count(*) FILTER (WHERE NOT EXISTS (
         SELECT FROM api_key k WHERE level = 'key' AND k.kid = subject AND k.status = 'revoked')) AS in_all
FROM limit_rule WHERE organisation IS NOT DISTINCT FROM $1

-- name: limit_add
INSERT INTO limit_rule (organisation, level, subject, unit, window_kind, seconds, zone, anchor, model, amount, soft,
                        by_platform)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
RETURNING *

-- name: limit_edit
UPDATE limit_rule SET amount = $2, soft = $3 WHERE id = $1 RETURNING *

-- name: limit_remove
DELETE FROM limit_rule WHERE id = $1

-- name: limit_remove_of
DELETE FROM limit_rule WHERE organisation IS NOT DISTINCT FROM $1 AND level = $2 AND subject = $3

-- name: limit_of_subject
SELECT * FROM limit_rule WHERE organisation IS NOT DISTINCT FROM $1 AND level = $2 AND subject = $3 ORDER BY id

-- name: limit_of_key
SELECT * FROM limit_rule WHERE level = 'key' AND subject = $1 ORDER BY id

-- name: limit_key
-- A living key with its person's role, as a subject of limits.
SELECT k.person, m.role FROM api_key k
JOIN membership m ON m.organisation = k.organisation AND m.person = k.person
WHERE k.kid = $2 AND k.organisation = $1 AND k.status <> 'revoked'

-- name: limit_event_add
-- What has crossed a threshold and is not told yet. A plan's rule is of the organisation whose use it was.
INSERT INTO limit_event (rule, organisation, owner, window_start, percent, used, amount, end_user)
SELECT r.id, coalesce(r.organisation, split_part(m.owner, ':', 2)::uuid), m.owner, m.window_start, soft.percent,
       m.used, r.amount, u.end_user
FROM unnest($1::smallint[], $2::text[], $3::bigint[], $4::bigint[], $5::text[])
  AS u (shard, owner, window_start, rule, end_user)
JOIN meter_use m ON m.shard = u.shard AND m.owner = u.owner AND m.window_start = u.window_start
JOIN limit_rule r ON r.id = u.rule, unnest(r.soft) AS soft (percent)
WHERE m.used::numeric * 100 >= r.amount * soft.percent
ORDER BY m.owner, r.id, soft.percent
ON CONFLICT DO NOTHING

-- name: limit_event_list
SELECT e.*, r.level, r.subject, r.unit FROM limit_event e LEFT JOIN limit_rule r ON r.id = e.rule
WHERE e.organisation = $1 AND ($2::bigint IS NULL OR e.id < $2)
ORDER BY e.id DESC
LIMIT $3

-- name: limit_event_prune
DELETE FROM limit_event WHERE at <= now() - interval '400 days'

-- name: records_of_members
-- What stands for these people in Redis: their living keys and sign-ins.
SELECT 'key' AS kind, kid AS id FROM api_key
WHERE organisation = $1 AND person = ANY($2::uuid[]) AND status <> 'revoked'
UNION ALL
SELECT 'sign_in', id FROM sign_in WHERE organisation = $1 AND person = ANY($2::uuid[]) AND expires_at > now()

-- name: team_list
SELECT t.id, t.name, t.created_at, count(m.person)::int AS members
FROM team t LEFT JOIN membership m ON m.organisation = t.organisation AND m.team = t.id
WHERE t.organisation = $1 AND ($2::uuid IS NULL OR t.id = $2) AND ($3::uuid IS NULL OR t.id > $3)
GROUP BY t.id
ORDER BY t.id
LIMIT $4

-- name: team_count
SELECT count(*) FROM team WHERE organisation = $1

-- name: team_add
INSERT INTO team (id, organisation, name) VALUES ($1, $2, $3)

-- name: team_rename
UPDATE team SET name = $2 WHERE id = $1

-- name: team_remove
DELETE FROM team WHERE id = $1

-- name: team_members
SELECT p.id, p.email, p.name, m.role FROM membership m JOIN person p ON p.id = m.person
WHERE m.organisation = $1 AND m.team = $2 AND ($3::text IS NULL OR p.email > $3)
ORDER BY p.email
LIMIT $4

-- name: team_people
SELECT person FROM membership WHERE organisation = $1 AND team = $2

-- name: team_leave
UPDATE membership SET team = NULL WHERE organisation = $1 AND team = $2

-- name: membership_in_team
SELECT team FROM membership WHERE organisation = $1 AND person = $2

-- name: membership_team
UPDATE membership SET team = $3 WHERE organisation = $1 AND person = $2

-- name: plan_lock
-- Whoever gives an organisation a plan waits until the plan's limits stand.
SELECT name FROM plan WHERE name = $1 FOR NO KEY UPDATE

-- name: plan_share
SELECT name FROM plan WHERE name = $1 FOR SHARE

-- name: plan_list
SELECT p.name, p.note, p.for_new, p.byok, p.created_at,
       (SELECT count(*) FROM organisation o WHERE o.plan = p.name)::int AS organisations,
       (SELECT count(*) FROM limit_rule l WHERE l.level = 'plan' AND l.subject = p.name)::int AS limits
FROM plan p WHERE ($1::text IS NULL OR p.name = $1)
ORDER BY p.name

-- name: plan_count
SELECT count(*) FROM plan

-- name: plan_add
INSERT INTO plan (name, note, byok) VALUES ($1, $2, $3)

-- name: plan_edit
UPDATE plan SET note = coalesce($2, note), for_new = coalesce($3, for_new), byok = coalesce($4, byok) WHERE name = $1

-- name: plan_for_new
-- The one that organisations are made with, if any.
SELECT name FROM plan WHERE for_new FOR SHARE

-- name: plan_not_for_new
UPDATE plan SET for_new = false WHERE for_new AND name <> $1

-- name: plan_remove
DELETE FROM plan WHERE name = $1

-- name: plan_organisations
SELECT id FROM organisation WHERE plan = $1

-- name: job_add
INSERT INTO job (organisation, id, ceiling, kept, person) VALUES ($1, $2, $3, true, $4)
ON CONFLICT DO NOTHING
RETURNING id

-- name: job_lock
SELECT * FROM job WHERE organisation = $1 AND id = $2 FOR UPDATE

-- name: job_keep
-- One that requests have made is now kept like those of the API. It becomes nobody's: others run under it.
UPDATE job SET kept = true WHERE organisation = $1 AND id = $2 AND NOT kept

-- name: job_close
UPDATE job SET kept = true, closed_at = now() WHERE organisation = $1 AND id = $2 AND closed_at IS NULL

-- name: job_count
SELECT count(*) FROM job WHERE organisation = $1 AND kept AND closed_at IS NULL

-- name: job_list
-- Of an organisation (one of them, when named), each with what of it is booked.
SELECT j.*, coalesce(m.used, 0) AS used
FROM job j JOIN organisation o ON o.id = j.organisation
LEFT JOIN meter_use m
  ON m.shard = o.shard AND m.owner = 'w:j:' || o.id || ':' || j.id || ':bud' AND m.window_start = 0
WHERE j.organisation = $1 AND ($2::text IS NULL OR j.id = $2) AND ($3::text IS NULL OR j.id > $3)
ORDER BY j.id
LIMIT $4

-- name: job_seen
-- The ceiling that a request knew; the first one stands.
INSERT INTO job AS j (organisation, id, ceiling, kept)
SELECT u.organisation, u.id, u.ceiling, false
FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS u (organisation, id, ceiling)
JOIN organisation o ON o.id = u.organisation
ORDER BY 1, 2
ON CONFLICT (organisation, id) DO UPDATE SET used_on = current_date WHERE j.used_on < current_date

-- name: job_prune
-- As Redis forgets them: those of requests a week after the last one, closed ones after 40 days; a day
-- later, so that a name never begins anew here while Redis still knows it.
DELETE FROM job
WHERE (NOT kept AND used_on < current_date - 8) OR closed_at < now() - interval '42 days'

-- name: record_jobs
SELECT j.*, o.shard FROM unnest($1::text[]) AS n (name)
JOIN job j ON j.organisation = split_part(n.name, ':', 1)::uuid AND j.id = split_part(n.name, ':', 2)
JOIN organisation o ON o.id = j.organisation

-- name: record_jobs_of_shards
SELECT j.*, o.shard FROM job j JOIN organisation o ON o.id = j.organisation WHERE o.shard = ANY($1::smallint[])
