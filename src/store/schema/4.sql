-- Up to here no callback's text is kept, only what was read from it.
CREATE TABLE body_cut (
    seq INTEGER NOT NULL
) STRICT;
INSERT INTO body_cut VALUES (0);
