INSERT INTO linkrift_analytics.clicks
    (event_id, code, clicked_at, referrer_host, address, visitor, country, browser, os, device)
SELECT
    toUUID(concat('a45c1fca-be74-8bf4-b9c4-', toString(100000000000 + number))),
    if(number % {share} = 0, '{code}', concat('other', toString(number % {others}))),
    now() - number % 2592000,
    concat('site', toString(number % 97), '.example'),
    concat('198.51.', toString(number % 251), '.0'),
    cityHash64(number % 400000),
    ['DE', 'US', 'JP'][number % 3 + 1],
    ['Chrome', 'Firefox', 'Safari'][number % 3 + 1],
    ['Windows', 'Android', 'iOS'][number % 3 + 1],
    'phone'
FROM system.numbers
LIMIT {clicks}
