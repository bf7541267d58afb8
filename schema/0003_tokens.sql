-- Tokens (JWT): what signs them, and the sign-ins that they stand for, as the proxies know these.

-- Private halves are derived from the root key and this number; none is stored anywhere.
CREATE TABLE token_key (
  version    integer PRIMARY KEY CHECK (version > 0),
  public     bytea NOT NULL CHECK (length(public) = 32),  -- Ed25519
  signs_from timestamptz NOT NULL,  -- proxies know it some time before
  ends_at    timestamptz  -- accepted until then; null: the newest
);
CREATE TRIGGER token_key_touch AFTER INSERT OR UPDATE OR DELETE ON token_key
  FOR EACH ROW EXECUTE FUNCTION snapshot_touch();

-- A session in one organisation. It has a record in Redis like that of an API key, and ends with
-- the session, the membership or the person.
CREATE TABLE sign_in (
  id           text PRIMARY KEY CHECK (id ~ '^[0-9A-Za-z]{20}$'),  -- longer than any key's
  session      bytea NOT NULL,  -- digest; the session itself may be gone
  organisation uuid NOT NULL REFERENCES organisation,
  person       uuid NOT NULL REFERENCES person,
  ended        boolean NOT NULL DEFAULT false,
  version      bigint NOT NULL DEFAULT 1,
  expires_at   timestamptz NOT NULL,  -- with its session
  UNIQUE (session, organisation)
);
CREATE INDEX sign_in_person ON sign_in (person);
CREATE INDEX sign_in_expires ON sign_in (expires_at);

ALTER TABLE outbox_record DROP CONSTRAINT outbox_record_kind_check,
  ADD CONSTRAINT outbox_record_kind_check CHECK (kind IN ('k', 'o', 's'));

CREATE FUNCTION sign_in_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO outbox_record (kind, id) VALUES ('s', NEW.id) ON CONFLICT DO NOTHING;
  RETURN NULL;
END $$;
CREATE TRIGGER sign_in_version BEFORE UPDATE ON sign_in FOR EACH ROW EXECUTE FUNCTION record_version();
CREATE TRIGGER sign_in_queue AFTER INSERT OR UPDATE ON sign_in FOR EACH ROW EXECUTE FUNCTION sign_in_queue();

-- Whoever takes a session away, for whatever reason, ends what stands for it.
CREATE FUNCTION session_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE sign_in SET ended = true WHERE session = OLD.digest AND NOT ended;
  RETURN NULL;
END $$;
CREATE TRIGGER session_end AFTER DELETE ON session FOR EACH ROW EXECUTE FUNCTION session_end();

-- A person's status and a membership's role and budget stand in the records of the sign-ins.
CREATE FUNCTION sign_in_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_TABLE_NAME = 'person' THEN
    UPDATE sign_in SET ended = ended WHERE person = OLD.id AND NOT ended;
  ELSE
    UPDATE sign_in SET ended = ended
    WHERE organisation = OLD.organisation AND person = OLD.person AND NOT ended;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER person_sign_in AFTER UPDATE OF status ON person
  FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION sign_in_touch();
CREATE TRIGGER membership_sign_in AFTER DELETE OR UPDATE OF role, budget_ucr ON membership
  FOR EACH ROW EXECUTE FUNCTION sign_in_touch();

-- Like the record of a key, with nothing of its own: who may make no keys may only look.
CREATE VIEW sign_in_record AS
SELECT s.id AS kid, o.shard, s.version, s.organisation, s.person, 0 AS pepper, '' AS digest, NULL::text[] AS models,
       CASE WHEN m.role IN ('viewer', 'analyst') THEN ARRAY['/v1/models*', '/v1/me/*', '/api/v1/llm/models*'] END AS routes,
       NULL::text[] AS addresses, NULL::text AS old_digest, NULL::smallint AS old_pepper, NULL::bigint AS old_until_ms,
       NULL::integer AS parallel_max, NULL::bigint AS budget_ucr, m.budget_ucr AS person_budget_ucr,
       m.version AS person_version, (extract(epoch FROM s.expires_at) * 1000)::bigint AS expires_ms,
       CASE WHEN s.ended OR p.status <> 'active' OR m.person IS NULL THEN 'revoked' ELSE 'active' END AS status
FROM sign_in s
JOIN organisation o ON o.id = s.organisation
JOIN person p ON p.id = s.person
LEFT JOIN membership m ON m.organisation = s.organisation AND m.person = s.person;

DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'opscenter_app') THEN
    GRANT SELECT, INSERT, UPDATE, DELETE ON token_key, sign_in TO opscenter_app;
    GRANT SELECT ON sign_in_record TO opscenter_app;
  END IF;
END $$;
