DROP TRIGGER links_40_continue_version ON links;
DROP TRIGGER links_note_deleted ON links;
DROP FUNCTION continue_link_version();
DROP FUNCTION note_deleted_links();
DROP TABLE deleted_links;
