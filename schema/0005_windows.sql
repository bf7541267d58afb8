-- What counts in a window, and calls and tokens beside credits.

ALTER TABLE meter_use
  ADD COLUMN unit text NOT NULL DEFAULT 'ucr' CHECK (unit IN ('ucr', 'call', 'tok')),
  ADD COLUMN window_start bigint NOT NULL DEFAULT 0,  -- ms since 1970; 0: no window
  DROP CONSTRAINT meter_use_pkey,
  ADD PRIMARY KEY (shard, owner, window_start);

ALTER TABLE outbox_redis
  ADD COLUMN window_start bigint NOT NULL DEFAULT 0;  -- as of meter_use: a count of a window that is over is left

ALTER TABLE usage_event
  ADD COLUMN calls smallint NOT NULL DEFAULT 0,  -- 0 where the call is given back
  ADD COLUMN counted_tokens bigint NOT NULL DEFAULT 0;  -- of its tokens, those that limits count
COMMENT ON COLUMN usage_event.budgets IS
  'What it counted on, as owner and meter of meter_use; with another unit or a window followed by @unit@window_start';

-- Windows that can still be open: the longest is a month. Of those that are over the ledger keeps
-- the counts, and Redis has no use for them.
CREATE VIEW meter_use_open AS
SELECT DISTINCT ON (shard, owner) shard, owner, unit, window_start, used
FROM meter_use
WHERE window_start = 0 OR window_start > (extract(epoch FROM now() - interval '32 days') * 1000)::bigint
ORDER BY shard, owner, window_start DESC;

-- Limits that count in Redis and outlive it, whether they were used or not.
CREATE VIEW meter_limited AS
SELECT o.shard, 'k:' || k.kid || ':bud' AS owner, 'ucr' AS unit
FROM api_key k JOIN organisation o ON o.id = k.organisation WHERE k.budget_ucr IS NOT NULL
UNION SELECT shard, 'o:' || id || ':bud', 'ucr' FROM organisation WHERE budget_ucr IS NOT NULL
UNION SELECT o.shard, 'w:u:' || m.person || ':bud', 'ucr'
FROM membership m JOIN organisation o ON o.id = m.organisation WHERE m.budget_ucr IS NOT NULL
UNION SELECT o.shard,
       CASE l.level WHEN 'key' THEN 'k:' || l.subject WHEN 'person' THEN 'w:u:' || l.subject
                    WHEN 'team' THEN 'w:t:' || l.subject ELSE 'o:' || o.id END || ':l' || l.id,
       CASE l.unit WHEN 'calls' THEN 'call' WHEN 'tokens' THEN 'tok' ELSE 'ucr' END
FROM limit_rule l
JOIN organisation o ON o.id = l.organisation OR (l.level = 'plan' AND o.plan = l.subject)
WHERE l.unit <> 'parallel' AND l.window_kind <> 'rolling' AND l.level <> 'end_user';

DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'opscenter_app') THEN
    GRANT SELECT ON meter_use_open, meter_limited TO opscenter_app;
  END IF;
END $$;
