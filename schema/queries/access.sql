-- Who there is and what they may: organisations, people, memberships, sessions, API keys.

-- name: setup_lock
-- Two first starts at one time: the second sees what the first made.
SELECT pg_advisory_xact_lock(hashtext('opscenter.setup'))

-- name: organisation_any
SELECT id FROM organisation LIMIT 1

-- name: organisation_add
INSERT INTO organisation (id, name, shard, platform, parallel_max)
VALUES ($1, $2, nextval('organisation_birth') % 64, $3, $4)
RETURNING id, name, shard, platform, status, parallel_max, created_at

-- name: person_add
INSERT INTO person (id, email, name, password) VALUES ($1, $2, $3, $4)
RETURNING id, email, name, status, created_at

-- name: membership_add
INSERT INTO membership (organisation, person, role, owner) VALUES ($1, $2, $3, $4)

-- name: api_key_add
INSERT INTO api_key (kid, organisation, person, name, digest, pepper, last4, models, parallel_max, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
RETURNING kid, organisation, person, name, last4, models, parallel_max, status, expires_at, created_at, revoked_at
