-- The truth of Ops-Center: who there is, what they may use, what it costs, what they paid.
-- Money is bigint micro-credits (ucr): 1 credit = 1,000,000 ucr, 1 ucr = $0.000000001.

CREATE DOMAIN ucr AS bigint CHECK (VALUE BETWEEN -9000000000000000 AND 9000000000000000);

-- Rows of these tables are written once: a mistake is mended by a further row.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append only: % refused', TG_TABLE_NAME, TG_OP
    USING HINT = 'Write a correcting row instead.';
END $$;


-- Who there is ---------------------------------------------------------------

CREATE TABLE organisation (
  id           uuid PRIMARY KEY,
  name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  shard        smallint NOT NULL CHECK (shard BETWEEN 0 AND 63),  -- given at birth, kept for life
  platform     boolean NOT NULL DEFAULT false,  -- its admins and moderators act across organisations
  status       text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
  parallel_max integer CHECK (parallel_max > 0),  -- requests at one time; null: no limit
  budget_ucr   ucr CHECK (budget_ucr >= 0),  -- may be spent in all; null: no limit but the pool
  version      bigint NOT NULL DEFAULT 1,  -- of the record that the proxies cache
  created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX organisation_one_platform ON organisation (platform) WHERE platform;
CREATE SEQUENCE organisation_birth;  -- shard = birth % 64, so that shards fill evenly

CREATE TABLE person (
  id         uuid PRIMARY KEY,
  email      text NOT NULL CHECK (email = lower(email) AND length(email) BETWEEN 3 AND 320),
  name       text NOT NULL DEFAULT '',
  password   text,  -- argon2id; null: signs in elsewhere
  status     text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX person_email ON person (email);

CREATE TABLE membership (
  organisation uuid NOT NULL REFERENCES organisation,
  person       uuid NOT NULL REFERENCES person,
  role         text NOT NULL CHECK (role IN ('admin', 'moderator', 'developer', 'analyst', 'viewer')),
  owner        boolean NOT NULL DEFAULT false,
  budget_ucr   ucr CHECK (budget_ucr >= 0),  -- this person's, over all his keys here
  version      bigint NOT NULL DEFAULT 1,
  created_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (organisation, person)
);
CREATE INDEX membership_person ON membership (person);

CREATE TABLE session (
  digest     bytea PRIMARY KEY,  -- SHA-256 of the token; the token itself is never stored
  person     uuid NOT NULL REFERENCES person,
  created_at timestamptz NOT NULL DEFAULT now(),
  seen_at    timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX session_person ON session (person);

CREATE TABLE api_key (
  kid          text PRIMARY KEY CHECK (kid ~ '^[0-9A-Za-z]{10}$'),
  organisation uuid NOT NULL REFERENCES organisation,
  person       uuid NOT NULL REFERENCES person,
  name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  digest       bytea NOT NULL,  -- HMAC-SHA-256(pepper, key)
  pepper       smallint NOT NULL,  -- which pepper
  last4        text NOT NULL,
  models       text[],  -- may use these; null: all
  parallel_max integer CHECK (parallel_max > 0),
  budget_ucr   ucr CHECK (budget_ucr >= 0),
  status       text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'revoked')),
  version      bigint NOT NULL DEFAULT 1,
  expires_at   timestamptz,
  created_at   timestamptz NOT NULL DEFAULT now(),
  revoked_at   timestamptz
);
CREATE INDEX api_key_person ON api_key (person);
CREATE INDEX api_key_organisation ON api_key (organisation);


-- What they may use, and what it costs ----------------------------------------

CREATE TABLE provider (
  name         text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  adapter      text NOT NULL,  -- a name of the adapters' catalogue
  base_url     text NOT NULL,
  secret       bytea,  -- the key, encrypted, bound to this provider and base_url; null: none needed
  secret_last4 text,
  enabled      boolean NOT NULL DEFAULT true,
  created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE model (
  id           text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}$'),
  context_max  integer NOT NULL CHECK (context_max > 0),  -- tokens
  output_max   integer NOT NULL CHECK (output_max > 0),   -- tokens
  thinks       boolean NOT NULL DEFAULT false,  -- gives out tokens that no stream shows: held whole
  enabled      boolean NOT NULL DEFAULT true,
  created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE deployment (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  model          text NOT NULL REFERENCES model ON DELETE CASCADE,
  provider       text NOT NULL REFERENCES provider ON DELETE CASCADE,
  upstream_model text NOT NULL,  -- what the provider calls it
  rank           smallint NOT NULL DEFAULT 0,  -- lowest first
  enabled        boolean NOT NULL DEFAULT true,
  UNIQUE (model, provider, upstream_model)
);

-- A price is never changed: the newest version of a model is in force, usage keeps the version it was charged by.
CREATE TABLE price (
  version     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  model       text NOT NULL,
  rates       jsonb NOT NULL,  -- token class -> integer ucr per 1,000,000 tokens
  factor_ppm  integer NOT NULL DEFAULT 1000000 CHECK (factor_ppm >= 0),  -- 1,000,000 + markup
  created_at  timestamptz NOT NULL DEFAULT now(),
  CHECK (jsonb_typeof(rates) = 'object' AND rates ? 'input' AND rates ? 'output')
);
CREATE INDEX price_model ON price (model, version DESC);
CREATE TRIGGER price_append_only BEFORE UPDATE OR DELETE ON price
  FOR EACH ROW EXECUTE FUNCTION refuse_change();


-- The ledger: double entry, append only -----------------------------------------

-- Totals only; every amount in them stands in a transfer or a usage event.
-- A pool's balance is credits - debits.
CREATE TABLE account (
  id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind    text NOT NULL CHECK (kind IN ('pool', 'revenue', 'promo', 'adjustment')),
  shard   smallint NOT NULL CHECK (shard BETWEEN 0 AND 63),  -- house accounts: one per shard, so that no row is everybody's
  owner   text NOT NULL DEFAULT '',  -- pools: the owner and meter in Redis, such as o:<organisation>:pool
  debits  bigint NOT NULL DEFAULT 0 CHECK (debits >= 0),  -- sums over years: wider than one amount
  credits bigint NOT NULL DEFAULT 0 CHECK (credits >= 0),
  UNIQUE (kind, shard, owner)
);

-- Every movement that is not usage.
CREATE TABLE transfer (
  id     bytea PRIMARY KEY CHECK (length(id) = 16),  -- BLAKE2b-128 of the cause: a replay collides
  debit  bigint NOT NULL REFERENCES account,
  credit bigint NOT NULL REFERENCES account,
  amount ucr NOT NULL CHECK (amount > 0),
  code   text NOT NULL CHECK (code IN ('grant', 'purchase', 'refund', 'adjustment', 'expiry')),
  ref    text NOT NULL,  -- the cause, in words that can be searched
  actor  text NOT NULL,
  at     timestamptz NOT NULL DEFAULT now(),
  CHECK (debit <> credit)
);
CREATE INDEX transfer_debit ON transfer (debit, at);
CREATE INDEX transfer_credit ON transfer (credit, at);
CREATE TRIGGER transfer_append_only BEFORE UPDATE OR DELETE ON transfer
  FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER transfer_no_truncate BEFORE TRUNCATE ON transfer
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- One row per admitted request; a late truth about an orphan is a second one (phase 1).
CREATE TABLE usage_event (
  rid           uuid NOT NULL,  -- UUIDv7, so the key holds across partitions
  phase         smallint NOT NULL CHECK (phase IN (0, 1)),
  kind          text NOT NULL CHECK (kind IN ('settled', 'released', 'orphan', 'correction')),
  debit         bigint NOT NULL,
  credit        bigint NOT NULL,
  cost          ucr NOT NULL CHECK (cost >= 0),
  organisation  uuid NOT NULL,
  kid           text NOT NULL,
  person        uuid NOT NULL,
  model         text NOT NULL,
  provider      text NOT NULL DEFAULT '',
  deployment    bigint NOT NULL DEFAULT 0,
  attempts      smallint NOT NULL DEFAULT 0,
  tokens        jsonb NOT NULL DEFAULT '{}',  -- token class -> count; disjoint classes
  usage_source  text NOT NULL CHECK (usage_source IN ('provider', 'estimated', 'none')),
  reason        text NOT NULL DEFAULT '',  -- why it ended as it did: a stable code
  price_version bigint NOT NULL,
  hold          ucr NOT NULL,
  late          boolean NOT NULL,  -- came after its hold had ended: touched no balance in Redis
  end_user      text,
  job           text,
  budgets       text[],  -- owners of the budgets that it counted on, as meter_use.owner
  duration_ms   integer,
  shard         smallint NOT NULL,
  sid           text NOT NULL,  -- id of the entry in the shard's stream
  at            timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (rid, phase)
) PARTITION BY RANGE (rid);
CREATE TABLE usage_event_other PARTITION OF usage_event DEFAULT;
CREATE INDEX usage_event_organisation ON usage_event (organisation, rid DESC);
CREATE TRIGGER usage_event_append_only BEFORE UPDATE OR DELETE ON usage_event
  FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER usage_event_no_truncate BEFORE TRUNCATE ON usage_event
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE FUNCTION rid_at(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
  SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- A partition per month from the last one to `ahead` months on; safe to call at any time, also by
-- who may make no tables.
CREATE FUNCTION usage_event_partitions(ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  month timestamptz;
  made integer := 0;
  part text;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('opscenter.usage_event_partitions'));
  FOR i IN -1 .. ahead LOOP
    month := (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => i)) AT TIME ZONE 'UTC';
    part := 'usage_event_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
    IF to_regclass(part) IS NULL THEN
      EXECUTE format('CREATE TABLE %I PARTITION OF usage_event FOR VALUES FROM (%L) TO (%L)', part,
        rid_at(month), rid_at((month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'));
      made := made + 1;
    END IF;
  END LOOP;
  RETURN made;
END $$;
SELECT usage_event_partitions(2);


-- Between the ledger and Redis ---------------------------------------------------

CREATE TABLE shard (
  id         smallint PRIMARY KEY CHECK (id BETWEEN 0 AND 63),
  cursor_ms  bigint NOT NULL DEFAULT 0,  -- last stream entry that is booked here
  cursor_seq bigint NOT NULL DEFAULT 0,
  generation bigint NOT NULL DEFAULT 1,  -- of what Redis holds of this shard
  outseq     bigint NOT NULL DEFAULT 0   -- last row of its outbox
);
INSERT INTO shard (id) SELECT generate_series(0, 63);

-- What budgets have been used for: a rebuilt Redis starts from here. A pool needs no row, its
-- account has the balance.
CREATE TABLE meter_use (
  shard  smallint NOT NULL REFERENCES shard,
  owner  text NOT NULL,  -- owner and meter in Redis, such as k:<key>:bud
  used   bigint NOT NULL,
  PRIMARY KEY (shard, owner)
);

-- Changes of counts that Redis must learn, in order, without a gap.
CREATE TABLE outbox_redis (
  shard smallint NOT NULL REFERENCES shard,
  seq   bigint NOT NULL CHECK (seq > 0),
  owner text NOT NULL,  -- as account.owner or meter_use.owner
  field text NOT NULL CHECK (field IN ('b', 'u')),  -- a pool's balance, a budget's use
  delta ucr NOT NULL,
  ref   text NOT NULL,
  at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (shard, seq)
);

-- Records of keys and organisations that Redis may not have yet in their newest version.
CREATE TABLE outbox_record (
  kind text NOT NULL CHECK (kind IN ('k', 'o')),
  id   text NOT NULL,
  at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (kind, id)
);

-- Nobody has to remember either: a change raises the record's version and queues it.
CREATE FUNCTION record_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.version := OLD.version + 1;
  RETURN NEW;
END $$;
CREATE FUNCTION record_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_TABLE_NAME = 'api_key' THEN
    INSERT INTO outbox_record (kind, id) VALUES ('k', NEW.kid) ON CONFLICT DO NOTHING;
  ELSE
    INSERT INTO outbox_record (kind, id) VALUES ('o', NEW.id::text) ON CONFLICT DO NOTHING;
  END IF;
  RETURN NULL;
END $$;
-- Wakes the drains: something waits in one of the two outboxes.
CREATE FUNCTION outbox_wake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('opscenter_outbox', TG_TABLE_NAME);
  RETURN NULL;
END $$;
CREATE TRIGGER outbox_redis_wake AFTER INSERT ON outbox_redis FOR EACH STATEMENT EXECUTE FUNCTION outbox_wake();
CREATE TRIGGER outbox_record_wake AFTER INSERT ON outbox_record FOR EACH STATEMENT EXECUTE FUNCTION outbox_wake();
CREATE TRIGGER api_key_version BEFORE UPDATE ON api_key FOR EACH ROW EXECUTE FUNCTION record_version();
CREATE TRIGGER api_key_queue AFTER INSERT OR UPDATE ON api_key FOR EACH ROW EXECUTE FUNCTION record_queue();
CREATE TRIGGER membership_version BEFORE UPDATE ON membership FOR EACH ROW EXECUTE FUNCTION record_version();

-- What the proxies know of a person stands in the records of his keys.
CREATE FUNCTION membership_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE api_key SET name = name
  WHERE organisation = NEW.organisation AND person = NEW.person AND status = 'active';
  RETURN NULL;
END $$;
CREATE TRIGGER membership_queue AFTER UPDATE OF budget_ucr ON membership
  FOR EACH ROW WHEN (OLD.budget_ucr IS DISTINCT FROM NEW.budget_ucr) EXECUTE FUNCTION membership_queue();
CREATE TRIGGER organisation_version BEFORE UPDATE ON organisation FOR EACH ROW EXECUTE FUNCTION record_version();
CREATE TRIGGER organisation_queue AFTER INSERT OR UPDATE ON organisation FOR EACH ROW EXECUTE FUNCTION record_queue();

-- Likewise for what all callers share: its one row orders the publications.
CREATE TABLE snapshot (
  one     boolean PRIMARY KEY DEFAULT true CHECK (one),
  version bigint NOT NULL
);
INSERT INTO snapshot (version) VALUES (1);
CREATE FUNCTION snapshot_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE snapshot SET version = version + 1;
  RETURN NULL;
END $$;
CREATE TRIGGER provider_touch AFTER INSERT OR UPDATE OR DELETE ON provider
  FOR EACH STATEMENT EXECUTE FUNCTION snapshot_touch();
CREATE TRIGGER model_touch AFTER INSERT OR UPDATE OR DELETE ON model
  FOR EACH STATEMENT EXECUTE FUNCTION snapshot_touch();
CREATE TRIGGER deployment_touch AFTER INSERT OR UPDATE OR DELETE ON deployment
  FOR EACH STATEMENT EXECUTE FUNCTION snapshot_touch();
CREATE TRIGGER price_touch AFTER INSERT ON price
  FOR EACH STATEMENT EXECUTE FUNCTION snapshot_touch();

-- Stream entries that could not be booked; `ledger verify` fails while one is open.
CREATE TABLE dead_letter (
  shard       smallint NOT NULL,
  sid         text NOT NULL,
  entry       jsonb NOT NULL,
  reason      text NOT NULL,
  at          timestamptz NOT NULL DEFAULT now(),
  resolved_at timestamptz,
  PRIMARY KEY (shard, sid)
);


-- The control plane's own ----------------------------------------------------------

CREATE TABLE audit (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at           timestamptz NOT NULL DEFAULT now(),
  actor        text NOT NULL,  -- person:<id>, key:<kid>, local, system
  action       text NOT NULL,
  object       text NOT NULL,
  organisation uuid,
  detail       jsonb NOT NULL DEFAULT '{}'  -- never a secret
);
CREATE INDEX audit_at ON audit (at);
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit
  FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The first answer to a write that carried an Idempotency-Key, kept for 24 hours.
CREATE TABLE idempotency (
  actor  text NOT NULL,
  key    text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  digest bytea NOT NULL,  -- of method, path and body: the same key with another request is refused
  status smallint NOT NULL,
  body   bytea NOT NULL,  -- encrypted: it may show a new key
  at     timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (actor, key)
);
CREATE INDEX idempotency_at ON idempotency (at);

CREATE TABLE plugin (
  name    text PRIMARY KEY,
  enabled boolean NOT NULL DEFAULT false,
  config  jsonb NOT NULL DEFAULT '{}',
  version bigint NOT NULL DEFAULT 1,
  at      timestamptz NOT NULL DEFAULT now()
);


-- What a first start brings ------------------------------------------------------

INSERT INTO provider (name, adapter, base_url) VALUES ('ops', 'echo', 'echo:');
INSERT INTO model (id, context_max, output_max) VALUES ('ops/echo', 32768, 4096);
INSERT INTO deployment (model, provider, upstream_model) VALUES ('ops/echo', 'ops', 'ops/echo');
INSERT INTO price (model, rates) VALUES ('ops/echo', '{"input": 1000000000, "output": 2000000000}');


-- Rights -------------------------------------------------------------------------

-- The processes work as this role: what is append only cannot be changed by them even if a
-- trigger were gone. Where no role may be made, the triggers stand alone.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'opscenter_app') THEN
    CREATE ROLE opscenter_app NOLOGIN;
  END IF;
  EXECUTE format('GRANT opscenter_app TO %I', current_user);
EXCEPTION
  WHEN insufficient_privilege THEN
    RAISE NOTICE 'no role opscenter_app: this user may not make roles';
  WHEN duplicate_object OR unique_violation THEN
    EXECUTE format('GRANT opscenter_app TO %I', current_user);  -- made by another at this moment
END $$;
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'opscenter_app') THEN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO opscenter_app', current_schema());
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO opscenter_app', current_schema());
    EXECUTE format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA %I TO opscenter_app', current_schema());
    REVOKE UPDATE, DELETE, TRUNCATE ON price, transfer, usage_event, usage_event_other, audit FROM opscenter_app;
    REVOKE INSERT, UPDATE, DELETE ON usage_event_other FROM opscenter_app;
  END IF;
END $$;
