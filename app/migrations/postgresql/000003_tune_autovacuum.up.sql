-- linkrift: expand
-- Links change often and are few enough to be looked at often: vacuum at 5 % of dead rows, analyse at 2 % of changed ones, and
-- pause between pages for the sake of those who read.
ALTER TABLE links SET (
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.02,
    autovacuum_vacuum_cost_delay = 10
);
