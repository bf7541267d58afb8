-- Jobs whose ceiling outlives Redis; what a key may do; the plan of new organisations; and what it
-- takes to forget counts that nobody asks for any more.

-- A key without scopes may do what its person may.
ALTER TABLE api_key ADD COLUMN scopes text[] CHECK (scopes <> '{}');

CREATE OR REPLACE VIEW api_key_shown AS
SELECT k.kid, k.organisation, k.person, k.name, k.last4, k.models, k.routes, k.addresses::text[] AS addresses,
       k.tags, k.parallel_max, k.budget_ucr,
       CASE WHEN k.budget_ucr IS NOT NULL THEN coalesce(m.used, 0) END AS budget_used_ucr,
       k.status, k.expires_at, k.created_at, k.revoked_at, k.rotated_at,
       CASE WHEN k.old_until > now() THEN k.old_until END AS old_until, u.used_at, k.pay, k.scopes
FROM api_key k
JOIN organisation o ON o.id = k.organisation
LEFT JOIN key_use u ON u.kid = k.kid
LEFT JOIN meter_use m ON m.shard = o.shard AND m.owner = 'k:' || k.kid || ':bud';

-- A job that was made by the API, or whose first request named a ceiling and is booked.
CREATE TABLE job (
  organisation uuid NOT NULL REFERENCES organisation,
  id           text NOT NULL CHECK (id ~ '^[A-Za-z0-9._-]{1,128}$'),  -- as X-Job-Id
  ceiling      ucr NOT NULL CHECK (ceiling >= 0),  -- the first one stands
  kept         boolean NOT NULL,  -- by the API: Redis keeps it too, until it is closed
  person       uuid REFERENCES person,  -- who made it; null: a request
  version      bigint NOT NULL DEFAULT 1,  -- of what Redis has of it
  created_at   timestamptz NOT NULL DEFAULT now(),
  used_on      date NOT NULL DEFAULT current_date,
  closed_at    timestamptz,  -- admits nothing from then on
  PRIMARY KEY (organisation, id)
);
CREATE INDEX job_used_on ON job (used_on);

ALTER TABLE outbox_record DROP CONSTRAINT outbox_record_kind_check,
  ADD CONSTRAINT outbox_record_kind_check CHECK (kind IN ('k', 'o', 's', 'j'));

CREATE FUNCTION job_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO outbox_record (kind, id) VALUES ('j', NEW.organisation || ':' || NEW.id)
  ON CONFLICT (kind, id) DO UPDATE SET at = outbox_record.at;
  RETURN NULL;
END $$;
CREATE TRIGGER job_version BEFORE UPDATE OF kept, closed_at ON job
  FOR EACH ROW EXECUTE FUNCTION record_version();
CREATE TRIGGER job_queue AFTER INSERT OR UPDATE OF kept, closed_at ON job
  FOR EACH ROW WHEN (NEW.kept) EXECUTE FUNCTION job_queue();

-- At most one plan is what organisations are made with.
ALTER TABLE plan ADD COLUMN for_new boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX plan_one_for_new ON plan (for_new) WHERE for_new;

-- A count that was forgotten and comes again begins anew: it is made of what was booked since then.
ALTER TABLE meter_use
  ADD COLUMN used_on date NOT NULL DEFAULT current_date,
  ADD COLUMN begun_at timestamptz NOT NULL DEFAULT '-infinity';
ALTER TABLE meter_use ALTER COLUMN begun_at SET DEFAULT now();
CREATE INDEX meter_use_used_on ON meter_use (used_on);

-- Limits that were taken away, until their counts are gone from Redis too.
CREATE TABLE limit_gone (
  rule  bigint NOT NULL,
  shard smallint NOT NULL,
  owner text NOT NULL,  -- in the shard
  at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (rule, owner)
);

CREATE FUNCTION limit_goes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO limit_gone (rule, shard, owner)
  SELECT OLD.id, o.shard,
         CASE OLD.level WHEN 'key' THEN 'k:' || OLD.subject WHEN 'person' THEN 'w:m:' || o.id || ':' || OLD.subject
                        WHEN 'team' THEN 'w:t:' || OLD.subject ELSE 'o:' || o.id END
  FROM organisation o
  WHERE CASE WHEN OLD.level = 'plan' THEN o.plan = OLD.subject ELSE o.id = OLD.organisation END
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END $$;
CREATE TRIGGER limit_goes AFTER DELETE ON limit_rule
  FOR EACH ROW WHEN (OLD.level <> 'end_user') EXECUTE FUNCTION limit_goes();

-- Counts of limits that were taken away are kept for a while, and Redis has no use for them.
CREATE OR REPLACE VIEW meter_use_open AS
SELECT DISTINCT ON (m.shard, m.owner) m.shard, m.owner, m.unit, m.window_start, m.used
FROM meter_use m
LEFT JOIN limit_rule l ON l.id = substring(m.owner FROM ':l([0-9]{1,18})$')::bigint
WHERE (m.window_start = 0 OR m.window_start > (extract(epoch FROM now() - interval '32 days') * 1000)::bigint)
  AND (l.id IS NOT NULL OR m.owner !~ ':l[0-9]{1,18}$')
ORDER BY m.shard, m.owner, m.window_start DESC;

DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'opscenter_app') THEN
    GRANT SELECT, INSERT, UPDATE, DELETE ON job, limit_gone TO opscenter_app;
  END IF;
END $$;
