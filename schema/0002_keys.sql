-- Keys that may be used for less, from fewer places, with a new secret beside the old one; and
-- accounts of programs.

ALTER TABLE api_key
  ADD COLUMN routes     text[],  -- paths it may call, a `*` at the end for all that begin so; null: all
  ADD COLUMN addresses  cidr[],  -- where it may be used from; null: everywhere
  ADD COLUMN tags       jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN rotated_at timestamptz,
  ADD COLUMN old_digest bytea,  -- of the secret before the last rotation, which is good
  ADD COLUMN old_pepper smallint,
  ADD COLUMN old_until  timestamptz,  -- until then
  ADD CHECK ((old_digest IS NULL) = (old_pepper IS NULL) AND (old_digest IS NULL) = (old_until IS NULL)),
  ADD CHECK (jsonb_typeof(tags) = 'object'),
  DROP CONSTRAINT api_key_status_check,
  ADD CONSTRAINT api_key_status_check CHECK (status IN ('active', 'blocked', 'revoked'));

-- A change of the limits of a person is a change of the records of all living keys.
CREATE OR REPLACE FUNCTION membership_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE api_key SET name = name
  WHERE organisation = NEW.organisation AND person = NEW.person AND status <> 'revoked';
  RETURN NULL;
END $$;

-- Apart from the keys, because every change of those is told to the proxies.
CREATE TABLE key_use (
  kid     text PRIMARY KEY,
  used_at timestamptz NOT NULL  -- when its newest request ended
) WITH (fillfactor = 70);

CREATE VIEW api_key_shown AS
SELECT k.kid, k.organisation, k.person, k.name, k.last4, k.models, k.routes, k.addresses::text[] AS addresses,
       k.tags, k.parallel_max, k.budget_ucr,
       CASE WHEN k.budget_ucr IS NOT NULL THEN coalesce(m.used, 0) END AS budget_used_ucr,
       k.status, k.expires_at, k.created_at, k.revoked_at, k.rotated_at,
       CASE WHEN k.old_until > now() THEN k.old_until END AS old_until, u.used_at
FROM api_key k
JOIN organisation o ON o.id = k.organisation
LEFT JOIN key_use u ON u.kid = k.kid
LEFT JOIN meter_use m ON m.shard = o.shard AND m.owner = 'k:' || k.kid || ':bud';

-- A program's account: an organisation of its own, in which it is a member that never signs in.
ALTER TABLE person
  ADD COLUMN service boolean NOT NULL DEFAULT false,
  ADD CHECK (NOT service OR password IS NULL);

DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'opscenter_app') THEN
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON key_use TO opscenter_app');
    EXECUTE format('GRANT SELECT ON api_key_shown TO opscenter_app');
  END IF;
END $$;
