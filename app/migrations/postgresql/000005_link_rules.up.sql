-- linkrift: expand
-- What a link asks of a visitor, or does, beside leading to its target.
ALTER TABLE links
    -- 301, 302, 307 or 308.
    ADD COLUMN redirect_status smallint NOT NULL DEFAULT 302,
    -- A visitor's query is added to the target's.
    ADD COLUMN forward_query boolean NOT NULL DEFAULT false,
    -- Until then there seems to be no such link.
    ADD COLUMN active_from timestamptz,
    -- How often it may be followed; counted here, since only one place can count exactly.
    ADD COLUMN max_clicks bigint,
    ADD COLUMN clicks_used bigint NOT NULL DEFAULT 0,
    -- Grows with every change of the password: what a visitor got for an older one is worth nothing any more.
    ADD COLUMN password_version integer NOT NULL DEFAULT 0,
    -- The owner's switch of a guarded link (see below); NULL: the link is not guarded, and is_active is the switch.
    ADD COLUMN guarded_is_active boolean,
    -- Not validated: the columns are new, and looking through the table would hold up everybody else.
    ADD CONSTRAINT links_redirect_status CHECK (redirect_status IN (301, 302, 307, 308)) NOT VALID,
    ADD CONSTRAINT links_max_clicks CHECK (max_clicks > 0) NOT VALID;

-- A link is guarded while it has a password, a maximum or a time before which it does not answer. Releases that know none of
-- these look at is_active only: for them a guarded link is switched off. They answer 410 and never open it.
CREATE FUNCTION guard_link() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    switch boolean = coalesce(NEW.guarded_is_active, NEW.is_active);
BEGIN
    IF NEW.password_hash IS NOT NULL OR NEW.max_clicks IS NOT NULL OR NEW.active_from IS NOT NULL THEN
        NEW.guarded_is_active = switch;
        NEW.is_active = false;
    ELSE
        NEW.guarded_is_active = NULL;
        NEW.is_active = switch;
    END IF;
    RETURN NEW;
END;
$$;

-- Whoever sets is_active, in whatever release, means the owner's switch.
CREATE FUNCTION switch_link() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.guarded_is_active = NEW.is_active;
    RETURN NEW;
END;
$$;

CREATE FUNCTION count_link_password() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.password_version = OLD.password_version + 1;
    RETURN NEW;
END;
$$;

-- Triggers run in the order of their names.
CREATE TRIGGER links_10_switch
    BEFORE UPDATE OF is_active ON links
    FOR EACH ROW
    EXECUTE FUNCTION switch_link();

CREATE TRIGGER links_20_guard
    BEFORE INSERT OR UPDATE OF is_active, password_hash, max_clicks, active_from ON links
    FOR EACH ROW
    EXECUTE FUNCTION guard_link();

CREATE TRIGGER links_30_password
    BEFORE UPDATE OF password_hash ON links
    FOR EACH ROW
    EXECUTE FUNCTION count_link_password();

-- Beside links_note_change, which knows the columns that there were before. A change of both kinds counts twice: the version
-- only has to grow.
CREATE TRIGGER links_note_rule_change
    BEFORE UPDATE OF redirect_status, forward_query, active_from, max_clicks ON links
    FOR EACH ROW
    EXECUTE FUNCTION note_link_change();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'linkrift_redirect') THEN
        GRANT UPDATE (clicks_used) ON links TO linkrift_redirect;
    END IF;
END;
$$;
