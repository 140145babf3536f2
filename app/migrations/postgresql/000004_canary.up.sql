-- linkrift: expand
-- What a rollout's gates ask for before a visitor does: an account and its one link. These statements may be repeated, to bring
-- them back as they were.
--
-- Nobody signs in to the account: its address has no @, so that no request can name it, it is switched off, and no password has
-- its hash. Gates come with a token that lives for seconds.
INSERT INTO users (id, email, password_hash, is_active)
VALUES ('00000000-0000-4000-8000-000000000001', 'linkrift-canary', '!', false)
ON CONFLICT (id) DO UPDATE SET is_active = false;

-- The code was a reserved word from the beginning, so it is nobody's. Following it leads nowhere, and is not counted as a click.
INSERT INTO links (user_id, short_code, original_url, title)
VALUES ('00000000-0000-4000-8000-000000000001', 'ping', 'https://canary.linkrift.invalid/', 'Asked for by gates')
ON CONFLICT (short_code) DO UPDATE SET
    user_id = excluded.user_id,
    original_url = excluded.original_url,
    is_active = true,
    expires_at = NULL,
    deleted_at = NULL;
