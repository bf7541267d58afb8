-- What may be used and what it costs: providers, models, deployments, prices.

-- name: provider_list
SELECT name, adapter, base_url, secret_last4, enabled, created_at FROM provider ORDER BY name

-- name: provider_add
INSERT INTO provider (name, adapter, base_url, secret, secret_last4) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO NOTHING
RETURNING name, adapter, base_url, secret_last4, enabled, created_at

-- name: provider_secret
UPDATE provider SET secret = $2, secret_last4 = $3 WHERE name = $1
RETURNING name, adapter, base_url, secret_last4, enabled, created_at

-- name: provider_show
SELECT name, adapter, base_url, secret_last4, enabled, created_at FROM provider WHERE name = $1

-- name: provider_remove
DELETE FROM provider WHERE name = $1 RETURNING name

-- name: model_list
SELECT m.id, m.context_max, m.output_max, m.thinks, m.enabled, m.created_at, p.version AS price_version, p.rates, p.factor_ppm,
       coalesce(d.places, '[]') AS deployments
FROM model m
LEFT JOIN LATERAL (
  SELECT version, rates, factor_ppm FROM price WHERE model = m.id ORDER BY version DESC LIMIT 1) p ON true
LEFT JOIN LATERAL (
  SELECT jsonb_agg(jsonb_build_object('provider', provider, 'upstream_model', upstream_model, 'enabled', enabled)
                   ORDER BY rank, id) AS places
  FROM deployment WHERE model = m.id) d ON true
WHERE $1::text IS NULL OR m.id = $1
ORDER BY m.id

-- name: model_put
INSERT INTO model (id, context_max, output_max) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET context_max = excluded.context_max, output_max = excluded.output_max

-- name: model_edit
-- What is null stays as it is.
UPDATE model SET context_max = coalesce($2, context_max), output_max = coalesce($3, output_max),
                 thinks = coalesce($4, thinks), enabled = coalesce($5, enabled)
WHERE id = $1
RETURNING id

-- name: model_remove
DELETE FROM model WHERE id = $1 RETURNING id

-- name: deployment_put
-- A further place where the model can be had comes after those that there are.
INSERT INTO deployment (model, provider, upstream_model, rank)
VALUES ($1, $2, $3, (SELECT coalesce(max(rank) + 1, 0) FROM deployment WHERE model = $1))
ON CONFLICT (model, provider, upstream_model) DO UPDATE SET enabled = true

-- name: price_add
INSERT INTO price (model, rates) VALUES ($1, $2) RETURNING version
