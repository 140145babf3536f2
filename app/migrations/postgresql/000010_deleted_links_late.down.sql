DROP TRIGGER links_note_truncated ON links;
DROP TRIGGER links_continue_version_late ON links;
DROP FUNCTION note_truncated_links();
DROP FUNCTION continue_link_version_late();
