-- linkrift: expand
-- How often each link was followed in each month, as the worker counted it in ClickHouse. A month whose clicks are no longer kept
-- there stays counted here; links.click_count is the sum.
CREATE TABLE link_clicks (
    short_code varchar(64) NOT NULL REFERENCES links (short_code) ON DELETE CASCADE,
    month date NOT NULL,
    clicks bigint NOT NULL,
    PRIMARY KEY (short_code, month)
);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'linkrift_worker') THEN
        GRANT SELECT, INSERT, UPDATE ON link_clicks TO linkrift_worker;
    END IF;
END;
$$;
