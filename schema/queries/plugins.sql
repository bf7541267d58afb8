-- Which plugins are enabled, and how they are configured.

-- name: plugin_list
SELECT name, enabled, config, version, at FROM plugin ORDER BY name

-- name: plugin_get
SELECT name, enabled, config, version, at FROM plugin WHERE name = $1

-- name: plugin_put
-- Writes over the version that was read (0: none); no row comes back when it is another by now.
-- Without a configuration the stored one stays.
INSERT INTO plugin (name, enabled, config, at)
VALUES ($1, $2, coalesce($3::jsonb, '{}'), clock_timestamp())
ON CONFLICT (name) DO UPDATE
SET enabled = excluded.enabled,
    config = coalesce($3::jsonb, plugin.config),
    version = plugin.version + 1,
    at = excluded.at
WHERE plugin.version = $4
RETURNING name, enabled, config, version, at
