-- linkrift: expand
CREATE TABLE links (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    short_code varchar(64) NOT NULL,
    original_url text NOT NULL,
    title varchar(255),
    description text,
    is_active boolean NOT NULL DEFAULT true,
    expires_at timestamptz,
    password_hash varchar(255),
    click_count bigint NOT NULL DEFAULT 0,
    -- Grows with every change, so that a cache can tell which of two copies is the newer one.
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- A deleted link keeps its row: it answers 410, and its code is never given to anybody else.
    deleted_at timestamptz,
    CONSTRAINT links_short_code_key UNIQUE (short_code),
    CONSTRAINT links_short_code_form CHECK (short_code ~ '^[A-Za-z0-9_-]+$'),
    CONSTRAINT links_original_url_form CHECK (original_url ~ '^https?://' AND length(original_url) <= 8192)
);

-- The owner's list, newest first.
CREATE INDEX links_user_id_created_at_idx ON links (user_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;

-- What the owner changed; counting clicks is no change.
CREATE FUNCTION note_link_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now();
    NEW.version = OLD.version + 1;
    RETURN NEW;
END;
$$;

CREATE TRIGGER links_note_change
    BEFORE UPDATE OF original_url, title, description, is_active, expires_at, password_hash, deleted_at ON links
    FOR EACH ROW
    EXECUTE FUNCTION note_link_change();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'linkrift_api') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON links TO linkrift_api;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'linkrift_redirect') THEN
        GRANT SELECT ON links TO linkrift_redirect;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'linkrift_worker') THEN
        GRANT SELECT (id, short_code, click_count), UPDATE (click_count) ON links TO linkrift_worker;
    END IF;
END;
$$;
