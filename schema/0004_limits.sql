-- Limits: rules of every level, the teams and plans that some of them belong to, and the moments
-- when use came near one.

CREATE TABLE team (
  id           uuid PRIMARY KEY,
  organisation uuid NOT NULL REFERENCES organisation,
  name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  version      bigint NOT NULL DEFAULT 1,  -- of its limits in Redis
  created_at   timestamptz NOT NULL DEFAULT now(),
  UNIQUE (organisation, name),
  UNIQUE (organisation, id)
);

-- What a member does, with all his keys and sign-ins, counts on his team too.
ALTER TABLE membership
  ADD COLUMN team uuid,
  ADD FOREIGN KEY (organisation, team) REFERENCES team (organisation, id);
CREATE INDEX membership_team ON membership (team) WHERE team IS NOT NULL;

-- A set of limits that many organisations have, each for itself. A fresh install has none.
CREATE TABLE plan (
  name       text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  note       text NOT NULL DEFAULT '' CHECK (length(note) <= 500),
  created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE organisation ADD COLUMN plan text REFERENCES plan;
CREATE INDEX organisation_plan ON organisation (plan) WHERE plan IS NOT NULL;

-- One limit of one subject. Its amount and thresholds may change, and its counts go on; anything
-- else is another rule.
CREATE TABLE limit_rule (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  organisation uuid REFERENCES organisation,  -- null: a plan's
  level        text NOT NULL CHECK (level IN ('key', 'person', 'team', 'organisation', 'plan', 'end_user')),
  subject      text NOT NULL DEFAULT '',  -- id of the key, person or team, name of the plan
  unit         text NOT NULL CHECK (unit IN ('calls', 'tokens', 'credits', 'parallel')),
  window_kind  text NOT NULL CHECK (window_kind IN ('none', 'rolling', 'day', 'week', 'month')),
  seconds      integer CHECK (seconds BETWEEN 1 AND 86400),  -- of a rolling window
  zone         text,  -- of a calendar's, by its IANA name
  anchor       smallint,  -- when it begins: 1 Monday..7 Sunday, or a day of the month, at most its last
  model        text,  -- counts only what is asked of it; null: all
  amount       ucr NOT NULL CHECK (amount >= 0),  -- credits in ucr
  soft         smallint[] NOT NULL DEFAULT '{}',  -- percent of the amount that raise an event
  by_platform  boolean NOT NULL DEFAULT false,  -- only the platform's people may loosen it
  created_at   timestamptz NOT NULL DEFAULT now(),
  CHECK ((level = 'plan') = (organisation IS NULL)),
  CHECK ((level IN ('organisation', 'end_user')) = (subject = '')),
  CHECK (unit <> 'parallel' OR window_kind = 'none'),
  CHECK ((window_kind = 'rolling') = (seconds IS NOT NULL)),
  CHECK ((window_kind IN ('day', 'week', 'month')) = (zone IS NOT NULL)),
  CHECK (CASE window_kind WHEN 'week' THEN coalesce(anchor BETWEEN 1 AND 7, false)
                          WHEN 'month' THEN coalesce(anchor BETWEEN 1 AND 31, false)
                          ELSE anchor IS NULL END),
  CHECK (1 <= ALL (soft) AND 100 >= ALL (soft))
);
CREATE INDEX limit_rule_subject ON limit_rule (organisation, level, subject);
CREATE INDEX limit_rule_plan ON limit_rule (subject) WHERE level = 'plan';

-- The use of a limit has crossed one of its thresholds: once in each window.
CREATE TABLE limit_event (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  rule         bigint NOT NULL,  -- which may be gone
  organisation uuid NOT NULL REFERENCES organisation,
  owner        text NOT NULL,  -- as meter_use.owner
  window_start bigint NOT NULL,  -- as of meter_use; 0: no window
  percent      smallint NOT NULL,
  used         bigint NOT NULL,
  amount       bigint NOT NULL,  -- what the limit was then
  at           timestamptz NOT NULL DEFAULT now(),
  UNIQUE (rule, owner, window_start, percent)
);
CREATE INDEX limit_event_organisation ON limit_event (organisation, id DESC);


-- Every change reaches the records that name it ---------------------------------------

DROP TRIGGER membership_queue ON membership;
CREATE TRIGGER membership_queue AFTER UPDATE OF budget_ucr, team ON membership
  FOR EACH ROW EXECUTE FUNCTION membership_queue();
DROP TRIGGER membership_sign_in ON membership;
CREATE TRIGGER membership_sign_in AFTER DELETE OR UPDATE OF role, budget_ucr, team ON membership
  FOR EACH ROW EXECUTE FUNCTION sign_in_touch();

CREATE FUNCTION team_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE api_key k SET name = k.name FROM membership m
  WHERE m.organisation = NEW.organisation AND m.team = NEW.id
    AND k.organisation = m.organisation AND k.person = m.person AND k.status <> 'revoked';
  UPDATE sign_in s SET ended = s.ended FROM membership m
  WHERE m.organisation = NEW.organisation AND m.team = NEW.id
    AND s.organisation = m.organisation AND s.person = m.person AND NOT s.ended;
  RETURN NULL;
END $$;
CREATE TRIGGER team_version BEFORE UPDATE ON team FOR EACH ROW EXECUTE FUNCTION record_version();
CREATE TRIGGER team_queue AFTER UPDATE ON team FOR EACH ROW EXECUTE FUNCTION team_queue();

CREATE FUNCTION limit_touch() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  rule limit_rule;
BEGIN
  IF TG_OP = 'DELETE' THEN rule := OLD; ELSE rule := NEW; END IF;
  CASE rule.level
    WHEN 'key' THEN
      UPDATE api_key SET name = name WHERE kid = rule.subject AND status <> 'revoked';
    WHEN 'person' THEN
      UPDATE membership SET team = team
      WHERE organisation = rule.organisation AND person = rule.subject::uuid;
    WHEN 'team' THEN
      UPDATE team SET name = name WHERE id = rule.subject::uuid;
    WHEN 'plan' THEN
      UPDATE organisation SET name = name WHERE plan = rule.subject;
    ELSE
      UPDATE organisation SET name = name WHERE id = rule.organisation;
  END CASE;
  RETURN NULL;
END $$;
CREATE TRIGGER limit_touch AFTER INSERT OR UPDATE OR DELETE ON limit_rule
  FOR EACH ROW EXECUTE FUNCTION limit_touch();


-- What the proxies are told ------------------------------------------------------------

CREATE VIEW limit_told AS
SELECT level, organisation, subject, id,
       jsonb_build_object('id', id, 'unit', unit, 'amount', amount, 'window', window_kind, 'seconds', seconds,
                          'zone', zone, 'anchor', anchor, 'model', model) AS rule
FROM limit_rule;

-- A key is good only while its person is.
CREATE VIEW api_key_record AS
SELECT k.kid, o.shard, k.version, k.organisation, k.person, k.pepper, encode(k.digest, 'hex') AS digest, k.models,
       k.routes, k.addresses::text[] AS addresses, encode(k.old_digest, 'hex') AS old_digest, k.old_pepper,
       (extract(epoch FROM k.old_until) * 1000)::bigint AS old_until_ms, k.parallel_max, k.budget_ucr,
       m.budget_ucr AS person_budget_ucr, m.version AS person_version,
       coalesce((extract(epoch FROM k.expires_at) * 1000)::bigint, 0) AS expires_ms,
       CASE WHEN p.status = 'active' THEN k.status ELSE 'revoked' END AS status,
       (SELECT jsonb_agg(l.rule ORDER BY l.id) FROM limit_told l
        WHERE l.level = 'key' AND l.organisation = k.organisation AND l.subject = k.kid) AS rules,
       (SELECT jsonb_agg(l.rule ORDER BY l.id) FROM limit_told l
        WHERE l.level = 'person' AND l.organisation = k.organisation AND l.subject = k.person::text) AS person_rules,
       t.id AS team, t.version AS team_version,
       (SELECT jsonb_agg(l.rule ORDER BY l.id) FROM limit_told l
        WHERE l.level = 'team' AND l.organisation = k.organisation AND l.subject = t.id::text) AS team_rules
FROM api_key k
JOIN organisation o ON o.id = k.organisation
JOIN person p ON p.id = k.person
LEFT JOIN membership m ON m.organisation = k.organisation AND m.person = k.person
LEFT JOIN team t ON t.id = m.team;

CREATE OR REPLACE VIEW sign_in_record AS
SELECT s.id AS kid, o.shard, s.version, s.organisation, s.person, 0 AS pepper, '' AS digest, NULL::text[] AS models,
       CASE WHEN m.role IN ('viewer', 'analyst') THEN ARRAY['/v1/models*', '/v1/me/*', '/api/v1/llm/models*'] END AS routes,
       NULL::text[] AS addresses, NULL::text AS old_digest, NULL::smallint AS old_pepper, NULL::bigint AS old_until_ms,
       NULL::integer AS parallel_max, NULL::bigint AS budget_ucr, m.budget_ucr AS person_budget_ucr,
       m.version AS person_version, (extract(epoch FROM s.expires_at) * 1000)::bigint AS expires_ms,
       CASE WHEN s.ended OR p.status <> 'active' OR m.person IS NULL THEN 'revoked' ELSE 'active' END AS status,
       NULL::jsonb AS rules,
       (SELECT jsonb_agg(l.rule ORDER BY l.id) FROM limit_told l
        WHERE l.level = 'person' AND l.organisation = s.organisation AND l.subject = s.person::text) AS person_rules,
       t.id AS team, t.version AS team_version,
       (SELECT jsonb_agg(l.rule ORDER BY l.id) FROM limit_told l
        WHERE l.level = 'team' AND l.organisation = s.organisation AND l.subject = t.id::text) AS team_rules
FROM sign_in s
JOIN organisation o ON o.id = s.organisation
JOIN person p ON p.id = s.person
LEFT JOIN membership m ON m.organisation = s.organisation AND m.person = s.person
LEFT JOIN team t ON t.id = m.team;

-- A plan's limits count for each organisation by itself.
CREATE VIEW organisation_record AS
SELECT o.id, o.shard, o.version, o.status, o.parallel_max, o.budget_ucr,
       (SELECT jsonb_agg(l.rule ORDER BY l.id) FROM limit_told l
        WHERE l.level = 'organisation' AND l.organisation = o.id AND l.subject = '') AS rules,
       (SELECT jsonb_agg(l.rule ORDER BY l.id) FROM limit_told l
        WHERE l.level = 'plan' AND l.subject = o.plan) AS plan_rules,
       (SELECT jsonb_agg(l.rule ORDER BY l.id) FROM limit_told l
        WHERE l.level = 'end_user' AND l.organisation = o.id AND l.subject = '') AS end_user_rules
FROM organisation o;

DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'opscenter_app') THEN
    GRANT SELECT, INSERT, UPDATE, DELETE ON team, plan, limit_rule, limit_event TO opscenter_app;
    GRANT SELECT ON limit_told, api_key_record, organisation_record TO opscenter_app;
  END IF;
END $$;
