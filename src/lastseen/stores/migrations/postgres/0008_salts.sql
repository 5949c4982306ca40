-- The keys of visitors without a cookie, one a day. They are deleted two days later, and with them all that could lead
-- from a visitor back to an address. No other table refers to them.
CREATE TABLE lastseen_salts (
    day date PRIMARY KEY,
    salt bytea NOT NULL
);
