-- Runs on ClickHouse 18.16 and on current versions: no LowCardinality, no DateTime64.
-- An event that arrives twice has the same key and is one row after a merge; until then uniqExact(event_id) counts it once.
CREATE TABLE IF NOT EXISTS clicks (
    event_id UUID,
    code String,
    clicked_at DateTime,
    request_id String,
    referrer_host String,
    user_agent String,
    address String
)
ENGINE = ReplacingMergeTree()
PARTITION BY toYYYYMM(clicked_at)
ORDER BY (code, clicked_at, event_id)
