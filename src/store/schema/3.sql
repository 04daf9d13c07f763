-- When each connected account was last heard of, and on which of its last days; few rows, whose number is bounded.
CREATE TABLE instance (
    instance_id      TEXT PRIMARY KEY,    -- empty where callbacks name none; 'other' stands for those beyond the bound
    last_callback_at INTEGER NOT NULL,    -- Unix milliseconds
    days             TEXT NOT NULL        -- JSON: a list of [day since 1970, longest pause that ended on it in milliseconds]
) STRICT, WITHOUT ROWID;
