-- Who there is and what they may: organisations, people, memberships, sessions, API keys.

-- name: setup_lock
-- Two first starts at one time: the second sees what the first made.
SELECT pg_advisory_xact_lock(hashtext('opscenter.setup'))

-- name: organisation_any
SELECT id FROM organisation LIMIT 1

-- name: organisation_add
INSERT INTO organisation (id, name, shard, platform, parallel_max, plan)
VALUES ($1, $2, nextval('organisation_birth') % 64, $3, $4, $5)
RETURNING id, shard

-- name: person_add
INSERT INTO person (id, email, name, password, service) VALUES ($1, $2, $3, $4, $5)
RETURNING id, email, name, status, created_at

-- name: membership_add
INSERT INTO membership (organisation, person, role, owner) VALUES ($1, $2, $3, $4)

-- name: api_key_add
INSERT INTO api_key (kid, organisation, person, name, digest, pepper, last4, models, routes, addresses, tags,
                     parallel_max, budget_ucr, expires_at, pay, scopes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)

-- name: session_add
INSERT INTO session (digest, person, expires_at) VALUES ($1, $2, now() + make_interval(hours => $3))
RETURNING expires_at

-- name: session_caller
-- The membership that a session acts in: the named organisation, else the platform's, else the oldest.
SELECT s.person, m.organisation, m.role, o.platform, o.status, s.seen_at < now() - interval '1 minute' AS stale
FROM session s
JOIN person p ON p.id = s.person AND p.status = 'active'
JOIN membership m ON m.person = s.person
JOIN organisation o ON o.id = m.organisation
WHERE s.digest = $1 AND s.expires_at > now() AND s.seen_at > now() - make_interval(mins => $2)
  AND ($3::uuid IS NULL OR m.organisation = $3)
ORDER BY o.platform DESC, m.created_at, m.organisation
LIMIT 1

-- name: session_seen
UPDATE session SET seen_at = now() WHERE digest = $1

-- name: session_remove
DELETE FROM session WHERE digest = $1

-- name: session_remove_of_person
DELETE FROM session WHERE person = $1

-- name: session_prune
DELETE FROM session WHERE expires_at <= now()

-- name: key_caller
SELECT k.digest, k.pepper, k.old_digest, k.old_pepper, k.old_until > now() AS old_is_good, k.person, k.organisation,
       m.role, o.platform, o.status, k.status AS key_status, k.routes, k.addresses::text[] AS addresses, k.scopes
FROM api_key k
JOIN person p ON p.id = k.person AND p.status = 'active'
JOIN membership m ON m.person = k.person AND m.organisation = k.organisation
JOIN organisation o ON o.id = k.organisation
WHERE k.kid = $1 AND k.status <> 'revoked' AND (k.expires_at IS NULL OR k.expires_at > now())

-- name: local_caller
-- Who the administrator of this machine is taken for: the first owner of the platform's organisation.
SELECT o.id AS organisation, m.person
FROM organisation o
LEFT JOIN membership m ON m.organisation = o.id AND m.owner
WHERE o.platform
ORDER BY m.created_at
LIMIT 1

-- name: login_person
SELECT id, password FROM person WHERE email = $1 AND status = 'active'

-- name: person_show
SELECT id, email, name, status, created_at FROM person WHERE id = $1

-- name: person_by_email
SELECT id FROM person WHERE email = $1

-- name: person_memberships
SELECT o.id AS organisation, o.name, o.platform, m.role, m.owner, m.budget_ucr AS allocation,
       CASE WHEN m.budget_ucr IS NOT NULL THEN coalesce(u.used, 0) END AS allocation_used
FROM membership m JOIN organisation o ON o.id = m.organisation
LEFT JOIN meter_use u ON u.shard = o.shard AND u.owner = 'w:m:' || o.id || ':' || m.person || ':bud'
WHERE m.person = $1
ORDER BY o.platform DESC, m.created_at, m.organisation

-- name: person_visible
-- A person as an administrator of organisation $2 (null: of all) may see him.
SELECT p.id, p.email, p.name, p.status, p.service, p.created_at
FROM person p
WHERE p.id = $1
  AND ($2::uuid IS NULL OR EXISTS (
    SELECT FROM membership m WHERE m.person = p.id AND m.organisation = $2))
FOR UPDATE OF p

-- name: person_list
SELECT p.id, p.email, p.name, p.status, p.service, p.created_at,
       jsonb_agg(jsonb_build_object('organisation', o.id, 'name', o.name, 'role', m.role, 'owner', m.owner,
                                    'allocation', m.budget_ucr, 'allocation_used',
                                    CASE WHEN m.budget_ucr IS NOT NULL THEN coalesce(u.used, 0) END)
                 ORDER BY o.name) AS memberships
FROM person p
JOIN membership m ON m.person = p.id
JOIN organisation o ON o.id = m.organisation
LEFT JOIN meter_use u ON u.shard = o.shard AND u.owner = 'w:m:' || o.id || ':' || m.person || ':bud'
WHERE ($1::uuid IS NULL OR m.organisation = $1)
  AND ($2::text IS NULL OR position(lower($2) IN p.email) > 0 OR position(lower($2) IN lower(p.name)) > 0)
  AND ($3::text IS NULL OR p.email > $3)
GROUP BY p.id
ORDER BY p.email
LIMIT $4

-- name: person_status
UPDATE person SET status = $2 WHERE id = $1

-- name: person_password
UPDATE person SET password = $2 WHERE id = $1

-- name: membership_get
SELECT role, owner FROM membership WHERE organisation = $1 AND person = $2

-- name: membership_role
UPDATE membership SET role = $3 WHERE organisation = $1 AND person = $2

-- name: membership_allocate
UPDATE membership SET budget_ucr = $3 WHERE organisation = $1 AND person = $2

-- name: organisation_show
SELECT o.id, o.name, o.shard, o.platform, o.status, o.parallel_max, o.budget_ucr AS budget, o.plan, o.created_at,
       CASE WHEN o.budget_ucr IS NOT NULL THEN coalesce(u.used, 0) END AS budget_used
FROM organisation o LEFT JOIN meter_use u ON u.shard = o.shard AND u.owner = 'o:' || o.id || ':bud'
WHERE o.id = $1 AND ($2::uuid IS NULL OR o.id = $2)

-- name: organisation_list
SELECT o.id, o.name, o.shard, o.platform, o.status, o.parallel_max, o.budget_ucr AS budget, o.plan, o.created_at,
       CASE WHEN o.budget_ucr IS NOT NULL THEN coalesce(u.used, 0) END AS budget_used
FROM organisation o LEFT JOIN meter_use u ON u.shard = o.shard AND u.owner = 'o:' || o.id || ':bud'
WHERE ($1::uuid IS NULL OR o.id = $1) AND ($2::uuid IS NULL OR o.id > $2)
ORDER BY o.id
LIMIT $3

-- name: organisation_lock
SELECT id FROM organisation WHERE id = $1 FOR NO KEY UPDATE

-- name: organisation_status
UPDATE organisation SET status = $2 WHERE id = $1

-- name: organisation_edit
UPDATE organisation SET name = $2, parallel_max = $3, budget_ucr = $4, plan = $5 WHERE id = $1

-- name: api_key_list
SELECT s.*, (SELECT jsonb_agg(l ORDER BY l.id) FROM limit_rule l
             WHERE l.level = 'key' AND l.organisation = s.organisation AND l.subject = s.kid) AS rules
FROM api_key_shown s
WHERE person = $1 AND ($2::uuid IS NULL OR organisation = $2) AND ($3::text IS NULL OR kid > $3)
ORDER BY kid
LIMIT $4

-- name: api_key_show
SELECT s.*, (SELECT jsonb_agg(l ORDER BY l.id) FROM limit_rule l
             WHERE l.level = 'key' AND l.organisation = s.organisation AND l.subject = s.kid) AS rules
FROM api_key_shown s
WHERE kid = $1 AND person = $2 AND ($3::uuid IS NULL OR organisation = $3)

-- name: api_key_limits
SELECT s.*, (SELECT jsonb_agg(l ORDER BY l.id) FROM limit_rule l
             WHERE l.level = 'key' AND l.organisation = s.organisation AND l.subject = s.kid) AS rules
FROM api_key_shown s
WHERE kid = $1

-- name: api_key_lock
-- Taken before a key is looked at, so that two changes of it come one after the other.
SELECT k.kid, k.pepper, k.organisation, o.shard FROM api_key k JOIN organisation o ON o.id = k.organisation
WHERE k.kid = $1 FOR NO KEY UPDATE OF k

-- name: api_key_count
SELECT count(*) FROM api_key WHERE person = $1 AND status <> 'revoked'

-- name: api_key_edit
UPDATE api_key SET name = $2, models = $3, routes = $4, addresses = $5, tags = $6, parallel_max = $7, budget_ucr = $8,
                   expires_at = $9, pay = $10, scopes = $11
WHERE kid = $1

-- name: api_key_status
UPDATE api_key SET status = $2, revoked_at = CASE WHEN $2 = 'revoked' THEN now() END
WHERE kid = $1 AND status NOT IN ('revoked', $2)

-- name: api_key_rotate
-- The secret that was in force until now is the old one; one that was old already is dead.
UPDATE api_key SET old_digest = CASE WHEN $5::integer > 0 THEN digest END,
                   old_pepper = CASE WHEN $5 > 0 THEN pepper END,
                   old_until = CASE WHEN $5 > 0 THEN now() + make_interval(secs => $5) END,
                   digest = $2, pepper = $3, last4 = $4, rotated_at = now()
WHERE kid = $1

-- name: api_key_touch_of_person
-- The person's status changed: what the proxies hold of his keys is out of date. Any update raises
-- the version and queues the record.
UPDATE api_key SET name = name WHERE person = $1 AND status <> 'revoked'
RETURNING kid

-- name: api_key_of_member
SELECT kid FROM api_key WHERE organisation = $1 AND person = $2 AND status <> 'revoked'

-- name: models_unknown
SELECT given FROM unnest($1::text[]) AS given WHERE NOT EXISTS (SELECT FROM model WHERE id = given)

-- name: person_in
-- A person with his role and shard in an organisation, as one bound to organisation $3 may see it.
SELECT m.organisation, m.role, o.shard
FROM membership m JOIN organisation o ON o.id = m.organisation
WHERE m.person = $1 AND ($2::uuid IS NULL OR m.organisation = $2) AND ($3::uuid IS NULL OR m.organisation = $3)
ORDER BY o.platform DESC, m.created_at, m.organisation
LIMIT 1
