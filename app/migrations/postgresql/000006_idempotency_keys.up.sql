-- linkrift: expand
-- What was answered to a request that its sender may repeat, until a day later. The row is written in the transaction
-- that makes the link: there are both or neither.
CREATE TABLE idempotency_keys (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- SHA-256 of the key.
    key_digest bytea NOT NULL,
    -- HMAC of the request with the key: of a body that is not kept, and that nobody without the key can guess from it.
    fingerprint bytea NOT NULL,
    short_code varchar(64) NOT NULL,
    answer text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (user_id, key_digest),
    CONSTRAINT idempotency_keys_form CHECK (length(key_digest) = 32 AND length(fingerprint) = 32)
);

-- The oldest are deleted.
CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'linkrift_api') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO linkrift_api;
    END IF;
END;
$$;
