-- Undoes 000008.
DROP INDEX CONCURRENTLY links_changed_idx;
