-- The log: every stored status change, in the order stored. Appended by rowid, deleted from its beginning.
CREATE TABLE change (
    seq               INTEGER PRIMARY KEY,
    received_at       INTEGER NOT NULL,   -- Unix milliseconds
    instance_id       TEXT,
    message_id        TEXT NOT NULL,
    status            TEXT NOT NULL,      -- as it was spelled
    phone             TEXT,
    participant       TEXT,
    device            INTEGER,
    moment            INTEGER,            -- Unix milliseconds
    is_group          INTEGER NOT NULL,
    transition        INTEGER NOT NULL,   -- 1 advance, 2 repeat, 3 late, 4 unranked
    previous          INTEGER,            -- rank: 1 SENT, 2 RECEIVED, 3 READ, 4 PLAYED
    since_previous_ms INTEGER,
    -- The callback's text, once for all the changes of one callback: here, or in the row that body_of names.
    body              TEXT,
    body_of           INTEGER,
    ids_start         INTEGER,            -- where in the text the ids stand, when there is more than one
    ids_end           INTEGER
) STRICT;

-- What was seen of each message and recipient: exact duplicates and the current status, in one look.
CREATE TABLE message (
    message_id  TEXT NOT NULL,
    instance_id TEXT NOT NULL,            -- empty where the callback has none, as recipient
    recipient   TEXT NOT NULL,
    seen        BLOB NOT NULL,
    PRIMARY KEY (message_id, instance_id, recipient)
) STRICT, WITHOUT ROWID;

-- How far each sink has come in the log.
CREATE TABLE sink (
    name   TEXT PRIMARY KEY,
    cursor INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Bodies that were no valid callback.
CREATE TABLE rejected (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at INTEGER NOT NULL,
    errors      TEXT NOT NULL,            -- JSON: a list of pointers and details
    body        TEXT NOT NULL
) STRICT;

-- What the rejected bodies amount to, so that keeping them bounded takes no look at all of them.
CREATE TABLE rejected_total (
    bodies INTEGER NOT NULL,
    bytes  INTEGER NOT NULL
) STRICT;
INSERT INTO rejected_total VALUES (0, 0);
CREATE TRIGGER rejected_added AFTER INSERT ON rejected BEGIN
    UPDATE rejected_total SET bodies = bodies + 1, bytes = bytes + octet_length(new.body) + octet_length(new.errors);
END;
CREATE TRIGGER rejected_removed AFTER DELETE ON rejected BEGIN
    UPDATE rejected_total SET bodies = bodies - 1, bytes = bytes - octet_length(old.body) - octet_length(old.errors);
END;

-- The last sequence number given out, so that none is given twice when the end of the log was deleted.
CREATE TABLE last_seq (
    seq INTEGER NOT NULL
) STRICT;
INSERT INTO last_seq VALUES (0);
