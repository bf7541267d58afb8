-- What may be used and what it costs: providers, models, deployments, prices.

-- name: model_list
SELECT m.id, m.context_max, m.output_max, m.output_assumed, m.thinks, m.byok AS byok_enabled, m.enabled, m.source,
       m.created_at,
       p.version AS price_version, p.rates, p.tiers, p.factor_ppm, p.source AS price_source, p.note AS price_note,
       p.created_at AS price_at, coalesce(d.places, '[]') AS deployments
FROM model m
LEFT JOIN LATERAL (
  SELECT * FROM price WHERE model = m.id ORDER BY version DESC LIMIT 1) p ON true
LEFT JOIN LATERAL (
  SELECT jsonb_agg(jsonb_build_object('provider', provider, 'upstream_model', upstream_model, 'enabled', enabled)
                   ORDER BY rank, id) AS places
  FROM deployment WHERE model = m.id) d ON true
WHERE $1::text IS NULL OR m.id = $1
ORDER BY m.id

-- name: model_put
INSERT INTO model (id, context_max, output_max) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET context_max = excluded.context_max, output_max = excluded.output_max,
                               output_assumed = false, source = 'admin'

-- name: model_edit
-- What is null stays as it is.
UPDATE model SET context_max = coalesce($2, context_max), output_max = coalesce($3, output_max),
                 thinks = coalesce($4, thinks), enabled = coalesce($5, enabled),
                 output_assumed = output_assumed AND $3 IS NULL, byok = coalesce($6, byok),
                 source = CASE WHEN coalesce($2, $3) IS NOT NULL OR coalesce($4, $5) IS NOT NULL THEN 'admin' ELSE source END
WHERE id = $1
RETURNING id

-- name: model_remove
DELETE FROM model WHERE id = $1 RETURNING id

-- name: deployment_put
-- A further place where the model can be had comes after those that there are.
INSERT INTO deployment (model, provider, upstream_model, rank)
VALUES ($1, $2, $3, (SELECT coalesce(max(rank) + 1, 0) FROM deployment WHERE model = $1))
ON CONFLICT (model, provider, upstream_model) DO UPDATE SET enabled = true, source = 'admin'

-- name: price_add
INSERT INTO price (model, rates, tiers) VALUES ($1, $2, $3) RETURNING version

-- name: price_reset
-- Takes an administrator's price back: the catalogue's holds again, where it has one.
INSERT INTO price (model, rates, tiers, source, note)
SELECT c.id, catalogue_price(c)->'rates', coalesce(catalogue_price(c)->'tiers', '[]'), catalogue_price(c)->>'source',
       coalesce(catalogue_price(c)->>'note', '')
FROM catalogue c WHERE c.id = $1 AND catalogue_price(c) IS NOT NULL
RETURNING version

-- name: price_history
SELECT version, rates, tiers, factor_ppm, source, note, created_at FROM price WHERE model = $1 ORDER BY version DESC LIMIT $2

-- name: catalogue_lock
-- Two control planes at one time: the second sees what the first has filled.
SELECT pg_advisory_xact_lock(hashtext('opscenter.catalogue'))

-- name: catalogue_source_note
SELECT note FROM catalogue_source WHERE name = $1

-- name: catalogue_source_put
INSERT INTO catalogue_source (name, note, models) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET note = excluded.note, models = excluded.models, at = now()

-- name: catalogue_source_list
SELECT name, note, models, at FROM catalogue_source ORDER BY name

-- name: catalogue_fill
-- What a package says; what a provider's own list has said of a model stays.
INSERT INTO catalogue AS c (id, provider, upstream_model, name, kind, takes, gives, thinks, context_max, output_max,
                            package, package_of, why_unpriced, retired)
SELECT r.provider || '/' || r.upstream_model, r.provider, r.upstream_model, r.name, r.kind, r.takes, r.gives, r.thinks,
       r.context_max, r.output_max, r.prices, $2, r.why_unpriced, r.retired
FROM jsonb_to_recordset($1::jsonb) AS r (
  provider text, upstream_model text, name text, kind text, takes text[], gives text[], thinks boolean,
  context_max integer, output_max integer, prices jsonb, why_unpriced text, retired boolean)
ON CONFLICT (id) DO UPDATE SET
  name = excluded.name, kind = excluded.kind, thinks = excluded.thinks, package = excluded.package,
  takes = CASE WHEN c.seen_at IS NULL THEN excluded.takes ELSE c.takes END,
  gives = CASE WHEN c.seen_at IS NULL THEN excluded.gives ELSE c.gives END,
  context_max = CASE WHEN c.seen_at IS NULL THEN excluded.context_max ELSE coalesce(c.context_max, excluded.context_max) END,
  output_max = CASE WHEN c.seen_at IS NULL THEN excluded.output_max ELSE coalesce(c.output_max, excluded.output_max) END,
  package_of = excluded.package_of, why_unpriced = excluded.why_unpriced, retired = excluded.retired

-- name: catalogue_same
-- Names with a date cost what the name without it does.
UPDATE catalogue c SET package = k.package, package_of = k.package_of, why_unpriced = k.why_unpriced
FROM catalogue k WHERE c.same_as <> '' AND k.provider = c.provider AND k.upstream_model = c.same_as

-- name: catalogue_forget
-- What no package names any more: gone where no list had it either, else without the package's price.
WITH gone AS (
  DELETE FROM catalogue WHERE package_of NOT IN ($1, '') AND seen_at IS NULL RETURNING id)
UPDATE catalogue SET package = '[]', package_of = '', why_unpriced = 'no package has a price for it any more'
WHERE package_of NOT IN ($1, '') AND seen_at IS NOT NULL

-- name: catalogue_serve
SELECT catalogue_serve()

-- name: catalogue_list
-- Everything that is known, by id, after one; which provider, free or priced or served alone.
SELECT c.*, catalogue_price(c) AS price, m.id IS NOT NULL AND m.enabled AS served,
       p.rates AS own_rates, p.tiers AS own_tiers, p.created_at AS own_at
FROM catalogue c
LEFT JOIN model m ON m.id = c.id
LEFT JOIN LATERAL (SELECT * FROM price WHERE model = c.id ORDER BY version DESC LIMIT 1) p ON p.source = 'admin'
WHERE c.id > $1
  AND ($2::text IS NULL OR c.provider = $2)
  AND ($3::text IS NULL OR strpos(lower(c.id || ' ' || c.name), lower($3)) > 0)
  AND ($4::boolean IS NULL OR (coalesce(p.rates, catalogue_price(c)->'rates') IS NOT NULL
       AND NOT EXISTS (SELECT FROM jsonb_each(coalesce(p.rates, catalogue_price(c)->'rates')) AS r WHERE r.value <> '0')) = $4)
  AND ($5::boolean IS NULL OR (coalesce(p.rates, catalogue_price(c)->'rates') IS NOT NULL) = $5)
  AND ($6::boolean IS NULL OR (m.id IS NOT NULL AND m.enabled) = $6)
ORDER BY c.id LIMIT $7

-- name: catalogue_show
SELECT c.*, catalogue_price(c) AS price, m.id IS NOT NULL AND m.enabled AS served,
       p.rates AS own_rates, p.tiers AS own_tiers, p.created_at AS own_at
FROM catalogue c
LEFT JOIN model m ON m.id = c.id
LEFT JOIN LATERAL (SELECT * FROM price WHERE model = c.id ORDER BY version DESC LIMIT 1) p ON p.source = 'admin'
WHERE c.id = $1

-- name: catalogue_names
-- By what names a provider's models are known, for a list that names them in other letters.
SELECT upstream_model FROM catalogue WHERE provider = $1

-- name: catalogue_list_merge
-- What a provider's own list says; what it does not say stays as it was known.
INSERT INTO catalogue AS c (id, provider, upstream_model, name, kind, takes, gives, thinks, context_max, output_max,
                            package, package_of, listed, same_as, why_unpriced, seen_at)
SELECT $2 || '/' || r.upstream_model, $2, r.upstream_model, r.name, r.kind, r.takes, r.gives, r.thinks,
       r.context_max, r.output_max, coalesce(k.package, '[]'), coalesce(k.package_of, ''), r.listed,
       coalesce(k.upstream_model, ''), CASE WHEN k.id IS NULL THEN r.why_unpriced ELSE '' END, now()
FROM jsonb_to_recordset($1::jsonb) AS r (
  upstream_model text, name text, kind text, takes text[], gives text[], thinks boolean, context_max integer,
  output_max integer, listed jsonb, same_as text, why_unpriced text)
LEFT JOIN catalogue k ON k.provider = $2 AND k.upstream_model = r.same_as
ON CONFLICT (id) DO UPDATE SET
  name = coalesce(nullif(excluded.name, ''), c.name),
  takes = excluded.takes, gives = excluded.gives,
  context_max = coalesce(excluded.context_max, c.context_max), output_max = coalesce(excluded.output_max, c.output_max),
  listed = CASE WHEN excluded.listed->'rates' IS NOT DISTINCT FROM c.listed->'rates'
                 AND excluded.listed->'tiers' IS NOT DISTINCT FROM c.listed->'tiers' THEN c.listed ELSE excluded.listed END,
  seen_at = now(), gone_at = NULL

-- name: catalogue_list_also
-- Names without a date that the list has with one.
UPDATE catalogue SET seen_at = now(), gone_at = NULL WHERE provider = $1 AND upstream_model = ANY($2::text[])

-- name: catalogue_list_gone
-- What was not in the list that was just read.
UPDATE catalogue SET gone_at = now() WHERE provider = $1 AND gone_at IS NULL AND (seen_at IS NULL OR seen_at < now())


-- name: catalogue_providers
SELECT name, kind, catalogue, adapter, base_url, coalesce(secret, env_secret) AS secret FROM provider
WHERE enabled AND catalogue IS NOT NULL AND ($1::text IS NULL OR name = $1) ORDER BY name

-- name: catalogue_due
SELECT v.name, v.kind, v.catalogue, v.adapter, v.base_url, coalesce(v.secret, v.env_secret) AS secret FROM provider v
LEFT JOIN catalogue_source s ON s.name = 'list:' || v.catalogue
WHERE v.enabled AND v.catalogue IS NOT NULL AND coalesce(v.secret, v.env_secret) IS NOT NULL
  AND coalesce(s.at, v.created_at) < now() - make_interval(hours => $1)
ORDER BY v.name
