-- Providers of known kinds, keys of theirs that come from the environment, and keys that people and
-- organisations bring for themselves (BYOK).

ALTER TABLE provider
  ADD COLUMN kind      text NOT NULL DEFAULT 'compatible',  -- a row of control/providers/table.py
  ADD COLUMN keyed     boolean NOT NULL DEFAULT false,  -- without a key it serves only who brings one
  ADD COLUMN quirks    jsonb NOT NULL DEFAULT '{}',  -- by which the proxies speak to it differently
  ADD COLUMN env_secret bytea,  -- of the environment, sealed like secret; counts where that is not there
  ADD COLUMN env_last4  text;
UPDATE provider SET kind = name
WHERE name IN ('openai', 'anthropic', 'google', 'openrouter', 'groq', 'huggingface', 'xai', 'together', 'mistral',
               'cohere', 'ollama', 'vllm', 'azure');

-- Whose models of the catalogue it has: by its kind, else by its name as before.
CREATE OR REPLACE FUNCTION provider_catalogue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.catalogue IS NULL AND NEW.adapter <> 'echo' THEN
    NEW.catalogue := CASE CASE WHEN NEW.kind IN ('compatible', 'vllm', 'ollama') THEN NEW.name ELSE NEW.kind END
      WHEN 'xai' THEN 'x-ai' WHEN 'grok' THEN 'x-ai'
      WHEN 'gemini' THEN 'google'
      WHEN 'together-ai' THEN 'together' WHEN 'togetherai' THEN 'together'
      WHEN 'hf' THEN 'huggingface' WHEN 'hugging-face' THEN 'huggingface'
      WHEN 'mistralai' THEN 'mistral'
      ELSE CASE WHEN NEW.kind IN ('compatible', 'vllm', 'ollama') THEN NEW.name ELSE NEW.kind END END;
  END IF;
  RETURN NEW;
END $$;

-- One for each kind of provider. A member's go with him.
CREATE TABLE byok_key (
  id           uuid PRIMARY KEY,
  organisation uuid NOT NULL REFERENCES organisation,
  person       uuid,  -- null: the organisation's, for all its members
  kind         text NOT NULL,
  name         text NOT NULL DEFAULT '' CHECK (length(name) <= 200),
  adapter      text NOT NULL,
  base_url     text NOT NULL,
  quirks       jsonb NOT NULL DEFAULT '{}',
  models       jsonb NOT NULL DEFAULT '{}',  -- model -> what it is called there, beyond those placed there
  secret       bytea NOT NULL,  -- sealed for this owner, kind and base_url
  last4        text NOT NULL,
  fallback     boolean NOT NULL DEFAULT false,  -- the platform's key may stand in, and is paid
  enabled      boolean NOT NULL DEFAULT true,
  created_at   timestamptz NOT NULL DEFAULT now(),
  FOREIGN KEY (organisation, person) REFERENCES membership (organisation, person) ON DELETE CASCADE
);
CREATE UNIQUE INDEX byok_key_one ON byok_key (organisation, coalesce(person, organisation), kind);

-- What keys were last found to be good for; apart from them, because every change of those is told
-- to the proxies.
CREATE TABLE key_test (
  subject text PRIMARY KEY,  -- provider:<name>, byok:<id>
  result  text NOT NULL CHECK (result IN ('accepted', 'limited', 'refused', 'unknown', 'unreachable')),
  said    text NOT NULL,
  at      timestamptz NOT NULL DEFAULT now()
);

-- They stand in the records of the organisation, or of the member's keys and sign-ins.
CREATE FUNCTION byok_touch() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  changed byok_key;
BEGIN
  IF TG_OP = 'DELETE' THEN changed := OLD; ELSE changed := NEW; END IF;
  IF changed.person IS NULL THEN
    UPDATE organisation SET name = name WHERE id = changed.organisation;
  ELSE
    UPDATE membership SET team = team WHERE organisation = changed.organisation AND person = changed.person;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER byok_touch AFTER INSERT OR UPDATE OR DELETE ON byok_key
  FOR EACH ROW EXECUTE FUNCTION byok_touch();

CREATE VIEW byok_told AS
SELECT organisation, person,
       jsonb_agg(jsonb_build_object(
         'name', '`' || coalesce(nullif(name, ''), kind) || '` (…' || last4 || ')', 'kind', kind, 'adapter', adapter,
         'base_url', base_url, 'secret', convert_from(secret, 'UTF8'), 'fallback', fallback, 'quirks', quirks,
         'models', models) ORDER BY kind) AS keys
FROM byok_key WHERE enabled GROUP BY organisation, person;

-- By which kinds of providers a model can be had, and what it is called there: where it is placed, where
-- the catalogue knows it from, and OpenRouter, which lists those of others by their own names.
CREATE VIEW model_place AS
SELECT model, kind, (array_agg(upstream_model ORDER BY nth))[1] AS upstream_model, min(nth) AS nth
FROM (SELECT d.model, v.kind, d.upstream_model, 0 AS nth FROM deployment d JOIN provider v ON v.name = d.provider
      WHERE v.kind NOT IN ('compatible', 'vllm', 'ollama', 'azure')
      UNION ALL
      SELECT id, CASE provider WHEN 'x-ai' THEN 'xai' ELSE provider END, upstream_model, 1 FROM catalogue
      UNION ALL
      SELECT upstream_model, 'openrouter', upstream_model, 2 FROM catalogue
      WHERE provider = 'openrouter' AND gone_at IS NULL) AS place
GROUP BY model, kind;

ALTER TABLE usage_event
  ADD COLUMN mode text NOT NULL DEFAULT 'platform' CHECK (mode IN ('platform', 'byok'));  -- by whose key

DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'opscenter_app') THEN
    GRANT SELECT, INSERT, UPDATE, DELETE ON byok_key, key_test TO opscenter_app;
    GRANT SELECT ON byok_told, model_place TO opscenter_app;
  END IF;
END $$;
