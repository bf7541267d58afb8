-- A record that waits already is locked by its next change until that commits: who takes it from the
-- outbox meanwhile would carry the record of before, and nobody that of after.

CREATE OR REPLACE FUNCTION record_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_TABLE_NAME = 'api_key' THEN
    INSERT INTO outbox_record (kind, id) VALUES ('k', NEW.kid) ON CONFLICT (kind, id) DO UPDATE SET at = outbox_record.at;
  ELSE
    INSERT INTO outbox_record (kind, id) VALUES ('o', NEW.id::text) ON CONFLICT (kind, id) DO UPDATE SET at = outbox_record.at;
  END IF;
  RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION sign_in_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO outbox_record (kind, id) VALUES ('s', NEW.id) ON CONFLICT (kind, id) DO UPDATE SET at = outbox_record.at;
  RETURN NULL;
END $$;
