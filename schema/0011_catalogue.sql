-- What models there are in the world and what they cost, whether or not they can be had here; and
-- prices by how much comes in, of what is no token, and from where they are known.

-- Layers of prices, the first that has one counts: an administrator's (table price), the provider's
-- own list (listed), what came with the package (package).
CREATE TABLE catalogue (
  id             text PRIMARY KEY CHECK (length(id) BETWEEN 3 AND 200 AND id ~ '^[A-Za-z0-9][A-Za-z0-9._:/@+~-]*$'),  -- provider/upstream_model
  provider       text NOT NULL,  -- as the catalogue calls it; what it is called here: provider.catalogue
  upstream_model text NOT NULL,
  name           text NOT NULL DEFAULT '',
  kind           text NOT NULL DEFAULT 'chat',
  takes          text[] NOT NULL DEFAULT '{text}',  -- text, image, audio, ...
  gives          text[] NOT NULL DEFAULT '{text}',
  thinks         boolean NOT NULL DEFAULT false,
  context_max    integer CHECK (context_max > 0),  -- tokens; null: nobody says
  output_max     integer CHECK (output_max > 0),   -- tokens; null: nobody says
  package        jsonb NOT NULL DEFAULT '[]',  -- prices: [{from, rates, tiers, note}], from null or a day, oldest first
  package_of     text NOT NULL DEFAULT '',  -- which package, and its version; '': it is not in it
  listed         jsonb,  -- the provider's own price: {rates, tiers, note}
  same_as        text NOT NULL DEFAULT '',  -- upstream_model whose name with a date this is: priced like it
  why_unpriced   text NOT NULL DEFAULT '',
  retired        boolean NOT NULL DEFAULT false,  -- says the package
  seen_at        timestamptz,  -- when the provider's list had it last; null: never
  gone_at        timestamptz,  -- since when it has it no more
  UNIQUE (provider, upstream_model)
);

-- Fills of the catalogue: what was taken from where, and when.
CREATE TABLE catalogue_source (
  name   text PRIMARY KEY,  -- package, or list:<provider>
  note   text NOT NULL,     -- the package's version, or what is wrong with the list
  models integer NOT NULL DEFAULT 0,
  at     timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE provider ADD COLUMN catalogue text;  -- whose models of the catalogue it has; null: none
ALTER TABLE model
  DROP CONSTRAINT model_id_check,
  ADD CONSTRAINT model_id_check CHECK (length(id) BETWEEN 1 AND 200 AND id ~ '^[A-Za-z0-9][A-Za-z0-9._:/@+~-]*$'),
  ADD COLUMN source text NOT NULL DEFAULT 'admin' CHECK (source IN ('admin', 'catalogue')),
  ADD COLUMN output_assumed boolean NOT NULL DEFAULT false;  -- nobody says it, so it is sent along
ALTER TABLE deployment
  ADD COLUMN source text NOT NULL DEFAULT 'admin' CHECK (source IN ('admin', 'catalogue'));
ALTER TABLE price
  DROP CONSTRAINT price_rates_check,
  ADD CONSTRAINT price_rates_check CHECK (jsonb_typeof(rates) = 'object' AND rates <> '{}'),
  ADD COLUMN tiers jsonb NOT NULL DEFAULT '[]',  -- [{above, rates}]: where more tokens come in
  ADD COLUMN source text NOT NULL DEFAULT 'admin' CHECK (source IN ('admin', 'list', 'package')),
  ADD COLUMN note text NOT NULL DEFAULT '';  -- which package, which list, what was rounded

-- What the catalogue charges for a model today, from where, and since when.
CREATE FUNCTION catalogue_price(c catalogue) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT CASE WHEN c.listed IS NOT NULL
    THEN c.listed || '{"source": "list"}'
    ELSE (SELECT p || '{"source": "package"}' FROM jsonb_array_elements(c.package) p
          WHERE p->>'from' IS NULL OR (p->>'from')::date <= current_date
          ORDER BY p->>'from' DESC NULLS LAST LIMIT 1) END
$$;

-- By what name the catalogue knows a provider.
CREATE FUNCTION provider_catalogue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.catalogue IS NULL AND NEW.adapter <> 'echo' THEN
    NEW.catalogue := CASE NEW.name
      WHEN 'xai' THEN 'x-ai' WHEN 'grok' THEN 'x-ai'
      WHEN 'gemini' THEN 'google'
      WHEN 'together-ai' THEN 'together' WHEN 'togetherai' THEN 'together'
      WHEN 'hf' THEN 'huggingface' WHEN 'hugging-face' THEN 'huggingface'
      WHEN 'mistralai' THEN 'mistral'
      ELSE NEW.name END;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER provider_catalogue BEFORE INSERT ON provider
  FOR EACH ROW EXECUTE FUNCTION provider_catalogue();
UPDATE provider SET catalogue = name WHERE adapter <> 'echo';

-- What should be served of the catalogue: models whose provider is here and has not dropped them.
CREATE VIEW catalogue_served AS
SELECT c.id, v.name AS provider, c.upstream_model, c.thinks,
       least(coalesce(c.context_max, 1048576), 100000000) AS context_max,
       least(coalesce(c.output_max, 16384), coalesce(c.context_max, 1048576)) AS output_max,
       c.output_max IS NULL AS output_assumed,
       catalogue_price(c) AS price
FROM catalogue c JOIN provider v ON v.catalogue = c.provider
WHERE v.enabled AND c.gone_at IS NULL;

-- Prices of it that are not the newest; an administrator's stays until he takes it back.
CREATE VIEW catalogue_price_due AS
SELECT DISTINCT ON (s.id) s.id, s.price->'rates' AS rates, coalesce(s.price->'tiers', '[]') AS tiers,
       s.price->>'source' AS source, coalesce(s.price->>'note', '') AS note
FROM catalogue_served s
LEFT JOIN LATERAL (SELECT * FROM price WHERE model = s.id ORDER BY version DESC LIMIT 1) p ON true
WHERE s.price IS NOT NULL AND (p.version IS NULL OR p.source <> 'admin'
      AND (p.rates, p.tiers, p.source) IS DISTINCT FROM (s.price->'rates', coalesce(s.price->'tiers', '[]'), s.price->>'source'));

-- Brings what is served in step with it; touches nothing that an administrator has set, and writes
-- only what differs: each write makes the proxies read everything anew.
-- Without nested loops, which a planner takes that does not know yet how much was just written.
CREATE FUNCTION catalogue_serve() RETURNS void LANGUAGE plpgsql SET enable_nestloop = off AS $$
BEGIN
  IF EXISTS (SELECT FROM catalogue_served s LEFT JOIN model m USING (id)
             WHERE m.id IS NULL OR m.source = 'catalogue' AND (m.context_max, m.output_max, m.output_assumed, m.thinks)
                   IS DISTINCT FROM (s.context_max, s.output_max, s.output_assumed, s.thinks)) THEN
    INSERT INTO model AS m (id, context_max, output_max, output_assumed, thinks, source)
    SELECT DISTINCT ON (id) id, context_max, output_max, output_assumed, thinks, 'catalogue' FROM catalogue_served
    ON CONFLICT (id) DO UPDATE SET context_max = excluded.context_max, output_max = excluded.output_max,
      output_assumed = excluded.output_assumed, thinks = excluded.thinks
    WHERE m.source = 'catalogue' AND (m.context_max, m.output_max, m.output_assumed, m.thinks)
          IS DISTINCT FROM (excluded.context_max, excluded.output_max, excluded.output_assumed, excluded.thinks);
  END IF;
  IF EXISTS (SELECT FROM deployment d WHERE d.source = 'catalogue' AND NOT EXISTS (SELECT FROM catalogue_served s
             WHERE (s.id, s.provider, s.upstream_model) = (d.model, d.provider, d.upstream_model))) THEN
    DELETE FROM deployment d WHERE d.source = 'catalogue' AND NOT EXISTS (SELECT FROM catalogue_served s
      WHERE (s.id, s.provider, s.upstream_model) = (d.model, d.provider, d.upstream_model));
  END IF;
  IF EXISTS (SELECT FROM catalogue_served s WHERE NOT EXISTS (SELECT FROM deployment d
             WHERE (d.model, d.provider, d.upstream_model) = (s.id, s.provider, s.upstream_model))) THEN
    INSERT INTO deployment (model, provider, upstream_model, rank, source)
    SELECT s.id, s.provider, s.upstream_model,
           coalesce(r.rank + 1, 0), 'catalogue'
    FROM catalogue_served s
    LEFT JOIN (SELECT model, max(rank) AS rank FROM deployment GROUP BY model) r ON r.model = s.id
    ON CONFLICT (model, provider, upstream_model) DO NOTHING;
  END IF;
  IF EXISTS (SELECT FROM model m WHERE m.source = 'catalogue' AND NOT EXISTS (SELECT FROM deployment d WHERE d.model = m.id)) THEN
    DELETE FROM model m WHERE m.source = 'catalogue' AND NOT EXISTS (SELECT FROM deployment d WHERE d.model = m.id);
  END IF;
  IF EXISTS (SELECT FROM catalogue_price_due) THEN
    INSERT INTO price (model, rates, tiers, source, note) SELECT id, rates, tiers, source, note FROM catalogue_price_due;
  END IF;
END $$;

CREATE FUNCTION provider_serve() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM catalogue_serve();
  RETURN NULL;
END $$;
CREATE TRIGGER provider_serve AFTER INSERT OR UPDATE OF enabled, catalogue OR DELETE ON provider
  FOR EACH STATEMENT EXECUTE FUNCTION provider_serve();

DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'opscenter_app') THEN
    GRANT SELECT, INSERT, UPDATE, DELETE ON catalogue, catalogue_source TO opscenter_app;
    GRANT SELECT ON catalogue_served, catalogue_price_due TO opscenter_app;
  END IF;
END $$;
