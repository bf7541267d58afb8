-- Tokens (JWT): their keys, and the sign-ins that they stand for.

-- name: token_key_lock
SELECT pg_advisory_xact_lock(hashtext('opscenter.token_key'))

-- name: token_key_list
-- Those that are accepted now, newest first, and whether they sign already.
SELECT version, public, signs_from <= now() AS signs FROM token_key
WHERE ends_at IS NULL OR ends_at > now()
ORDER BY version DESC

-- name: token_key_newest
SELECT version, public FROM token_key ORDER BY version DESC LIMIT 1

-- name: token_key_add
INSERT INTO token_key (version, public, signs_from) VALUES ($1, $2, now() + make_interval(secs => $3))

-- name: token_key_retire
UPDATE token_key SET ends_at = now() + make_interval(secs => $2) WHERE version < $1 AND ends_at IS NULL

-- name: token_key_prune
-- Its public half leaves the snapshot.
DELETE FROM token_key WHERE ends_at <= now()

-- name: sign_in_known
-- As it is: many workers may ask for tokens of one session.
SELECT id FROM sign_in WHERE session = $1 AND organisation = $2 AND expires_at = $3 AND NOT ended

-- name: sign_in_add
-- One per session and organisation; a second token of the same session stands for the same.
INSERT INTO sign_in (id, session, organisation, person, expires_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (session, organisation) DO UPDATE SET expires_at = excluded.expires_at
RETURNING id

-- name: sign_in_caller
SELECT s.person, s.organisation, s.session, m.role, o.platform, o.status, o.shard
FROM sign_in s
JOIN person p ON p.id = s.person AND p.status = 'active'
JOIN membership m ON m.person = s.person AND m.organisation = s.organisation
JOIN organisation o ON o.id = s.organisation
WHERE s.id = $1 AND NOT s.ended AND s.expires_at > now()

-- name: sign_in_of_session
SELECT id FROM sign_in WHERE session = $1

-- name: sign_in_of_person
SELECT id FROM sign_in WHERE person = $1 AND expires_at > now()

-- name: sign_in_prune
DELETE FROM sign_in WHERE expires_at <= now() - interval '1 day'

-- name: person_named
-- A program's account never signs in.
SELECT id FROM person WHERE email = $1 AND status = 'active' AND NOT service

-- name: identity_person
SELECT i.person, p.status FROM identity i JOIN person p ON p.id = i.person
WHERE i.issuer = $1 AND i.subject = $2

-- name: identity_add
-- Nothing where the person has another account of that issuer, or somebody was faster.
INSERT INTO identity (issuer, subject, person) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING true

-- name: identity_remove
DELETE FROM identity WHERE person = $1 RETURNING subject

-- name: session_of_token
-- One per token of the identity provider; not again where it was ended before its time.
INSERT INTO session (digest, person, expires_at)
SELECT $1, $2, now() + make_interval(secs => $3)
WHERE NOT EXISTS (SELECT FROM sign_in WHERE session = $1)
ON CONFLICT (digest) DO NOTHING

-- name: session_expires
-- Held until the sign-in stands: whoever ends the session then finds it.
SELECT expires_at FROM session WHERE digest = $1 AND expires_at > now() FOR SHARE

-- name: session_add_for
-- A session for one token alone, which ends with it.
INSERT INTO session (digest, person, expires_at) VALUES ($1, $2, now() + make_interval(secs => $3))
RETURNING expires_at

-- name: token_place
-- Where a person acts: the named organisation, else the platform's, else the oldest.
SELECT m.organisation, m.person, o.shard, o.status
FROM membership m
JOIN person p ON p.id = m.person AND p.status = 'active'
JOIN organisation o ON o.id = m.organisation
WHERE m.person = $1 AND ($2::uuid IS NULL OR m.organisation = $2)
ORDER BY o.platform DESC, m.created_at, m.organisation
LIMIT 1

-- name: record_sign_ins
SELECT r.*, b.keys AS own FROM sign_in_record r
LEFT JOIN byok_told b ON b.organisation = r.organisation AND b.person = r.person
WHERE r.kid = ANY($1::text[])

-- name: record_sign_ins_of_shards
SELECT r.*, b.keys AS own FROM sign_in_record r
LEFT JOIN byok_told b ON b.organisation = r.organisation AND b.person = r.person
WHERE r.shard = ANY($1::smallint[]) AND r.expires_ms > extract(epoch FROM now()) * 1000
