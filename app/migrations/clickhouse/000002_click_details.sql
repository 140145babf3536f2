-- Who followed a link, as far as it is kept. The release before leaves these columns out, and its rows have nothing in them.
-- 18.16 knows no IF NOT EXISTS here: whoever applies this takes "there already" for done, so each column has its statement.
ALTER TABLE clicks ADD COLUMN visitor UInt64;
ALTER TABLE clicks ADD COLUMN country String;
ALTER TABLE clicks ADD COLUMN browser String;
ALTER TABLE clicks ADD COLUMN os String;
ALTER TABLE clicks ADD COLUMN device String;
ALTER TABLE clicks ADD COLUMN bot UInt8;
