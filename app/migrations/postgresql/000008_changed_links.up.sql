-- linkrift: expand
-- linkrift: no-transaction
-- What the redirect processes ask for twice a second: which links changed since. Those that never did are not in it, and counting
-- clicks touches none of these columns.
CREATE INDEX CONCURRENTLY links_changed_idx ON links (updated_at, short_code) WHERE version > 1;
