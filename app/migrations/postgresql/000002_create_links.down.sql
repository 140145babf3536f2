DROP TABLE links;
DROP FUNCTION note_link_change();
