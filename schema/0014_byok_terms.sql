-- Where keys of one's own count: not for every model, nor in every plan.

ALTER TABLE plan ADD COLUMN byok boolean NOT NULL DEFAULT true;   -- its organisations and their members may bring keys
ALTER TABLE model ADD COLUMN byok boolean NOT NULL DEFAULT true;  -- such keys serve it

-- The platform's own organisation has all that there is.
CREATE VIEW byok_organisation AS
SELECT o.id, o.plan, o.platform OR coalesce(p.byok, true) AS included
FROM organisation o LEFT JOIN plan p ON p.name = o.plan;

CREATE OR REPLACE VIEW byok_told AS
SELECT b.organisation, b.person,
       jsonb_agg(jsonb_build_object(
         'name', '`' || coalesce(nullif(b.name, ''), b.kind) || '` (…' || b.last4 || ')', 'kind', b.kind, 'adapter', b.adapter,
         'base_url', b.base_url, 'secret', convert_from(b.secret, 'UTF8'), 'fallback', b.fallback, 'quirks', b.quirks,
         'models', b.models) ORDER BY b.kind) AS keys
FROM byok_key b JOIN byok_organisation o ON o.id = b.organisation
WHERE b.enabled AND o.included GROUP BY b.organisation, b.person;

-- Their keys are told anew, or told no more.
CREATE FUNCTION byok_terms_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_TABLE_NAME = 'plan' THEN
    UPDATE byok_key SET enabled = enabled WHERE organisation IN (SELECT id FROM organisation WHERE plan = NEW.name);
  ELSE
    UPDATE byok_key SET enabled = enabled WHERE organisation = NEW.id;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER byok_terms_touch AFTER UPDATE OF byok ON plan
  FOR EACH ROW WHEN (OLD.byok <> NEW.byok) EXECUTE FUNCTION byok_terms_touch();
CREATE TRIGGER byok_terms_touch AFTER UPDATE OF plan ON organisation
  FOR EACH ROW WHEN (OLD.plan IS DISTINCT FROM NEW.plan) EXECUTE FUNCTION byok_terms_touch();

DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'opscenter_app') THEN
    GRANT SELECT ON byok_organisation TO opscenter_app;
  END IF;
END $$;
