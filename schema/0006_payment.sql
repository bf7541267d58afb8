-- Who pays: a member's own credits beside the organisation's pool, in the order that a key names;
-- and credits that move from one pool to another.

-- A member's own credits are a pool too; its owner is w:m:<organisation>:<person>, as that of all
-- that is a person's in one organisation: another one may lie in the same shard.
ALTER TABLE api_key
  ADD COLUMN pay text[] NOT NULL DEFAULT '{organisation}'  -- pools in the order in which they are tried
    CHECK (pay IN ('{organisation}', '{own}', '{organisation,own}', '{own,organisation}'));

ALTER TABLE transfer
  DROP CONSTRAINT transfer_code_check,
  ADD CONSTRAINT transfer_code_check
    CHECK (code IN ('grant', 'purchase', 'refund', 'adjustment', 'expiry', 'move'));

ALTER TABLE outbox_redis
  ADD COLUMN hold text;  -- what was reserved in Redis for this change, which ends with it

CREATE OR REPLACE VIEW api_key_shown AS
SELECT k.kid, k.organisation, k.person, k.name, k.last4, k.models, k.routes, k.addresses::text[] AS addresses,
       k.tags, k.parallel_max, k.budget_ucr,
       CASE WHEN k.budget_ucr IS NOT NULL THEN coalesce(m.used, 0) END AS budget_used_ucr,
       k.status, k.expires_at, k.created_at, k.revoked_at, k.rotated_at,
       CASE WHEN k.old_until > now() THEN k.old_until END AS old_until, u.used_at, k.pay
FROM api_key k
JOIN organisation o ON o.id = k.organisation
LEFT JOIN key_use u ON u.kid = k.kid
LEFT JOIN meter_use m ON m.shard = o.shard AND m.owner = 'k:' || k.kid || ':bud';

CREATE OR REPLACE VIEW meter_limited AS
SELECT o.shard, 'k:' || k.kid || ':bud' AS owner, 'ucr' AS unit
FROM api_key k JOIN organisation o ON o.id = k.organisation WHERE k.budget_ucr IS NOT NULL
UNION SELECT shard, 'o:' || id || ':bud', 'ucr' FROM organisation WHERE budget_ucr IS NOT NULL
UNION SELECT o.shard, 'w:m:' || o.id || ':' || m.person || ':bud', 'ucr'
FROM membership m JOIN organisation o ON o.id = m.organisation WHERE m.budget_ucr IS NOT NULL
UNION SELECT o.shard,
       CASE l.level WHEN 'key' THEN 'k:' || l.subject WHEN 'person' THEN 'w:m:' || o.id || ':' || l.subject
                    WHEN 'team' THEN 'w:t:' || l.subject ELSE 'o:' || o.id END || ':l' || l.id,
       CASE l.unit WHEN 'calls' THEN 'call' WHEN 'tokens' THEN 'tok' ELSE 'ucr' END
FROM limit_rule l
JOIN organisation o ON o.id = l.organisation OR (l.level = 'plan' AND o.plan = l.subject)
WHERE l.unit <> 'parallel' AND l.window_kind <> 'rolling' AND l.level <> 'end_user';
