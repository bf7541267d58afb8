-- Whom the company's identity provider means: found by a verified e-mail once, known by `sub` since. An
-- address may be given to somebody else there; a subject never is.
CREATE TABLE identity (
  issuer    text NOT NULL CHECK (length(issuer) BETWEEN 1 AND 500),
  subject   text NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
  person    uuid NOT NULL REFERENCES person,
  linked_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (issuer, subject),
  UNIQUE (person, issuer)  -- another subject with the same e-mail is somebody else
);

DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'opscenter_app') THEN
    GRANT SELECT, INSERT, DELETE ON identity TO opscenter_app;
  END IF;
END $$;
