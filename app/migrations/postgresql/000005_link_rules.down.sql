-- Guarded links stay switched off: without these columns nothing would guard them.
DROP TRIGGER links_note_rule_change ON links;
DROP TRIGGER links_30_password ON links;
DROP TRIGGER links_20_guard ON links;
DROP TRIGGER links_10_switch ON links;
DROP FUNCTION count_link_password();
DROP FUNCTION switch_link();
DROP FUNCTION guard_link();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'linkrift_redirect') THEN
        REVOKE UPDATE (clicks_used) ON links FROM linkrift_redirect;
    END IF;
END;
$$;

ALTER TABLE links
    DROP COLUMN redirect_status,
    DROP COLUMN forward_query,
    DROP COLUMN active_from,
    DROP COLUMN max_clicks,
    DROP COLUMN clicks_used,
    DROP COLUMN password_version,
    DROP COLUMN guarded_is_active;
