-- A limit that was raised since may be near once more; and whom a limit of each end user was near of.

ALTER TABLE limit_event
  ADD COLUMN end_user text,
  DROP CONSTRAINT limit_event_rule_owner_window_start_percent_key,
  ADD UNIQUE (rule, owner, window_start, percent, amount);
