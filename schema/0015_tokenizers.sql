-- By what tokens were counted that no provider has told.

ALTER TABLE usage_event
  ADD COLUMN tokenizer text NOT NULL DEFAULT '';  -- of tiktoken; empty: by bytes, or told
