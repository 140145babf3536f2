-- linkrift: expand
-- Links whose rows were deleted, which the redirect processes ask for beside those that changed. The API keeps the rows of links
-- that their owners delete; this is for who deletes rows by hand or with an account.
CREATE TABLE deleted_links (
    short_code varchar(64) PRIMARY KEY,
    -- Above the last one that the link had, so that every copy of it is older.
    version bigint NOT NULL,
    deleted_at timestamptz NOT NULL
);

CREATE INDEX deleted_links_deleted_at_idx ON deleted_links (deleted_at, short_code);

-- With the owner's rights: who deletes or makes a link need not be able to write here.
CREATE FUNCTION note_deleted_links() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    -- Not now(): a long transaction began long before anybody can see what it deleted.
    INSERT INTO deleted_links (short_code, version, deleted_at)
    SELECT short_code, version + 1, clock_timestamp() FROM gone
    ON CONFLICT (short_code) DO UPDATE SET
        version = greatest(deleted_links.version + 1, excluded.version),
        deleted_at = excluded.deleted_at;
    -- No copy lives longer than some minutes. What another transaction is about to delete is left to it.
    DELETE FROM deleted_links WHERE short_code = ANY (ARRAY(
        SELECT short_code FROM deleted_links
        WHERE deleted_at < now() - interval '1 hour'
        ORDER BY deleted_at
        LIMIT 10000
        FOR UPDATE SKIP LOCKED
    ));
    RETURN NULL;
END;
$$;

CREATE TRIGGER links_note_deleted
    AFTER DELETE ON links
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT
    EXECUTE FUNCTION note_deleted_links();

-- Who takes the code of a link that was there a moment ago goes on counting where that ended: copies of the old one stay older.
CREATE FUNCTION continue_link_version() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    ended bigint = (SELECT version FROM deleted_links WHERE short_code = NEW.short_code);
BEGIN
    -- Of the two, greatest() ignores the one that is NULL.
    NEW.version = greatest(NEW.version, ended + 1);
    RETURN NEW;
END;
$$;

CREATE TRIGGER links_40_continue_version
    BEFORE INSERT ON links
    FOR EACH ROW
    EXECUTE FUNCTION continue_link_version();

REVOKE ALL ON FUNCTION note_deleted_links(), continue_link_version() FROM PUBLIC;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'linkrift_redirect') THEN
        GRANT SELECT ON deleted_links TO linkrift_redirect;
    END IF;
END;
$$;
