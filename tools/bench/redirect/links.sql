INSERT INTO links (user_id, short_code, original_url, deleted_at)
SELECT users.id, '{prefix}' || to_char(number, 'FM000000'), '{target}', {deleted}
FROM users, generate_series(1, {count}) AS number
WHERE users.email = '{email}'
ON CONFLICT (short_code) DO NOTHING;
