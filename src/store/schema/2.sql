-- Why a sink is given nothing, kept over a restart; NULL: it is given its changes.
ALTER TABLE sink ADD COLUMN paused TEXT;

-- Changes that a sink will be given again later, behind its cursor.
CREATE TABLE deferred (
    sink      TEXT NOT NULL,
    seq       INTEGER NOT NULL,
    attempts  INTEGER NOT NULL,           -- made, or being made
    due_at    INTEGER NOT NULL,           -- Unix milliseconds
    in_flight INTEGER NOT NULL,           -- an attempt was begun and has not been heard of
    PRIMARY KEY (sink, seq)
) STRICT, WITHOUT ROWID;

-- Changes that a sink was not given for good, until somebody retries or drops them. Each is kept whole: the log's retention
-- doesn't wait for it.
CREATE TABLE dead (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    sink              TEXT NOT NULL,
    seq               INTEGER NOT NULL,
    event_id          TEXT NOT NULL,
    reason            TEXT NOT NULL,      -- refused, exhausted, undeliverable
    cause             TEXT NOT NULL,
    attempts          INTEGER NOT NULL,
    died_at           INTEGER NOT NULL,   -- Unix milliseconds
    change            TEXT NOT NULL,      -- the event, as JSON
    since_previous_ms INTEGER
) STRICT;
CREATE INDEX dead_by_sink ON dead (sink, id);
CREATE INDEX dead_by_place ON dead (sink, seq);
CREATE INDEX dead_by_event ON dead (event_id);

-- Stored changes that a sink is being given again.
CREATE TABLE replay (
    sink      TEXT PRIMARY KEY,
    position  INTEGER NOT NULL,           -- everything up to here was given
    until     INTEGER NOT NULL,
    rate      REAL NOT NULL,              -- changes a second
    delivered INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
