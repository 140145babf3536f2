-- linkrift: expand
-- Two ways in which links went without a note in deleted_links that counted.

-- A code that is made anew while its row's deletion is not committed yet: links_40_continue_version looks before the insert waits
-- for that at the unique index, and finds nothing. So we look again after it: under READ COMMITTED, each statement of a volatile
-- function sees what was committed by then. The usual insert costs one more look into an index. With the owner's rights: who makes
-- a link need not be able to read there.
CREATE FUNCTION continue_link_version_late() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    ended bigint = (SELECT version FROM deleted_links WHERE short_code = NEW.short_code);
BEGIN
    IF ended >= NEW.version THEN
        -- Of this column alone: no other trigger takes that for a change by the owner.
        UPDATE links SET version = ended + 1 WHERE id = NEW.id AND version <= ended;
    END IF;
    RETURN NULL;
END;
$$;

CREATE TRIGGER links_continue_version_late
    AFTER INSERT ON links
    FOR EACH ROW
    EXECUTE FUNCTION continue_link_version_late();

-- TRUNCATE is no DELETE for triggers. By then nobody else can write to links any more.
CREATE FUNCTION note_truncated_links() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO deleted_links (short_code, version, deleted_at)
    SELECT short_code, version + 1, clock_timestamp() FROM links
    ON CONFLICT (short_code) DO UPDATE SET
        version = greatest(deleted_links.version + 1, excluded.version),
        deleted_at = excluded.deleted_at;
    RETURN NULL;
END;
$$;

CREATE TRIGGER links_note_truncated
    BEFORE TRUNCATE ON links
    FOR EACH STATEMENT
    EXECUTE FUNCTION note_truncated_links();

REVOKE ALL ON FUNCTION continue_link_version_late(), note_truncated_links() FROM PUBLIC;
