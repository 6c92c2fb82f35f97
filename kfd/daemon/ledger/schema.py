"""The ledger's tables, by version. A migration, once released, is never edited.

Paths and names are BLOBs: a file's name is bytes. Times are seconds since the epoch (REAL).
Counting never reads history: what ended is in ``tally``, what hasn't is in an index of its own.
"""

from __future__ import annotations

VERSION_1 = """
CREATE TABLE identity (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE route (
    name    TEXT PRIMARY KEY,
    born_ns INTEGER NOT NULL              -- files whose ctime is older were there before the route
) WITHOUT ROWID;

CREATE TABLE outgoing (
    id           INTEGER PRIMARY KEY,     -- order of acceptance
    tid          BLOB NOT NULL UNIQUE,
    route        TEXT NOT NULL,           -- '' for a send to a topic without a route
    topic        TEXT NOT NULL,
    path         BLOB NOT NULL,
    source       BLOB NOT NULL,
    device       INTEGER NOT NULL,        -- 0: not compared (network file systems)
    inode        INTEGER NOT NULL,
    size         INTEGER NOT NULL,
    mtime_ns     INTEGER NOT NULL,
    mode         INTEGER NOT NULL,
    generation   INTEGER NOT NULL,
    meta         TEXT NOT NULL,           -- a JSON object of strings
    uid          INTEGER,                 -- who asked; NULL: the watcher
    lane         INTEGER NOT NULL,        -- 0: small, 1: large
    state        TEXT NOT NULL,
    topic_id     TEXT,                    -- these three before the first produce
    partition    INTEGER,
    chunk_size   INTEGER,
    acked        INTEGER NOT NULL DEFAULT 0,   -- records acknowledged, a prefix of the file's
    first_offset INTEGER,
    acked_at     REAL,
    queued_at    REAL NOT NULL,
    not_before   REAL NOT NULL DEFAULT 0,
    ended_at     REAL,
    reason       TEXT NOT NULL DEFAULT '',
    fix          TEXT NOT NULL DEFAULT '',
    successor    BLOB                     -- tid of the transfer that took this one's place
);
CREATE INDEX outgoing_queued ON outgoing (route, topic, lane, id, size, state)
    WHERE state = 'queued';
CREATE INDEX outgoing_sending ON outgoing (route, topic, id, size, state)
    WHERE state = 'sending';
CREATE INDEX outgoing_tail ON outgoing (substr(tid, 13));
CREATE INDEX outgoing_ended ON outgoing (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE known_file (                 -- the newest version of each file that was accepted
    route    TEXT NOT NULL,
    topic    TEXT NOT NULL,               -- a route that gets another topic starts afresh
    path     BLOB NOT NULL,
    inode    INTEGER NOT NULL,            -- 0: not compared
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    source   BLOB NOT NULL,
    tid      BLOB,                        -- NULL: skipped, it was there before the route
    PRIMARY KEY (route, topic, path)
) WITHOUT ROWID;

CREATE TABLE outgoing_path (              -- never pruned: generations must not go back
    topic      TEXT NOT NULL,
    path       BLOB NOT NULL,
    generation INTEGER NOT NULL,
    topic_id   TEXT,
    partition  INTEGER,
    PRIMARY KEY (topic, path)
) WITHOUT ROWID;

CREATE TABLE incoming (
    id           INTEGER PRIMARY KEY,
    route        TEXT NOT NULL,
    topic        TEXT NOT NULL,
    topic_id     TEXT NOT NULL,
    tid          BLOB NOT NULL,
    partition    INTEGER NOT NULL,
    first_offset INTEGER NOT NULL,
    origin       TEXT NOT NULL,
    path         BLOB NOT NULL,
    generation   INTEGER NOT NULL,
    size         INTEGER NOT NULL,
    mtime_ns     INTEGER NOT NULL,
    digest       BLOB,
    meta         TEXT NOT NULL,
    state        TEXT NOT NULL,           -- 'publishing' is the intent to rename
    name         BLOB NOT NULL,           -- relative to the route's directory
    device       INTEGER,
    inode        INTEGER,
    reason       TEXT NOT NULL DEFAULT '',
    ended_at     REAL,
    UNIQUE (route, topic_id, partition, tid)
);
CREATE INDEX incoming_publishing ON incoming (route) WHERE state = 'publishing';
CREATE INDEX incoming_tail ON incoming (substr(tid, 13));
CREATE INDEX incoming_ended ON incoming (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE incoming_path (              -- the newest published version; never pruned
    route      TEXT NOT NULL,
    topic_id   TEXT NOT NULL,
    origin     TEXT NOT NULL,
    path       BLOB NOT NULL,
    generation INTEGER NOT NULL,
    name       BLOB NOT NULL,
    device     INTEGER NOT NULL,
    inode      INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    mtime_ns   INTEGER NOT NULL,
    PRIMARY KEY (route, topic_id, origin, path)
) WITHOUT ROWID;

CREATE TABLE reading (                    -- topics that a route has begun to read
    route    TEXT NOT NULL,
    topic_id TEXT NOT NULL,
    PRIMARY KEY (route, topic_id)
) WITHOUT ROWID;

CREATE TABLE bad_record (
    route     TEXT NOT NULL,
    reason    TEXT NOT NULL,
    count     INTEGER NOT NULL,
    topic     TEXT NOT NULL,              -- where the last one was seen
    partition INTEGER NOT NULL,
    offset    INTEGER NOT NULL,
    seen_at   REAL NOT NULL,
    PRIMARY KEY (route, reason)
) WITHOUT ROWID;

CREATE TABLE tally (                      -- transfers that ended, by state; outlives pruning
    direction TEXT NOT NULL,
    route     TEXT NOT NULL,
    topic     TEXT NOT NULL,
    state     TEXT NOT NULL,
    count     INTEGER NOT NULL,
    size      INTEGER NOT NULL,
    last      BLOB NOT NULL,              -- path or name of the one that came to it last
    last_at   REAL NOT NULL,
    PRIMARY KEY (direction, route, topic, state)
) WITHOUT ROWID;
"""

VERSION_2 = """
DROP INDEX outgoing_tail;                 -- written all over with each file, read once in a while
DROP INDEX incoming_tail;
CREATE INDEX incoming_tid ON incoming (tid);

-- Sending: what receivers say of what is in Kafka.

ALTER TABLE outgoing ADD COLUMN digest BLOB;              -- of the file, once it is in Kafka
ALTER TABLE outgoing ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;  -- how often it was refused
ALTER TABLE outgoing ADD COLUMN resend_at REAL;           -- it was refused: when to send it again
CREATE INDEX outgoing_resend ON outgoing (resend_at) WHERE resend_at IS NOT NULL;

CREATE TABLE confirmation (               -- receipts that don't decide about a transfer, or not yet
    id         INTEGER PRIMARY KEY,
    tid        BLOB NOT NULL,
    receiver   BLOB NOT NULL,             -- the receiving ledger's instance
    name       TEXT NOT NULL,             -- the receiver's origin
    outcome    TEXT NOT NULL,
    digest     BLOB,
    generation INTEGER,
    reason     TEXT NOT NULL,
    early      INTEGER NOT NULL,          -- 1: came before the ledger knew that it is in Kafka
    UNIQUE (tid, receiver)
);
CREATE INDEX confirmation_early ON confirmation (id) WHERE early;

CREATE TABLE receipt_position (           -- up to where receipts topics are read
    topic     TEXT NOT NULL,
    topic_id  TEXT NOT NULL,
    partition INTEGER NOT NULL,
    offset    INTEGER NOT NULL,           -- the next one
    PRIMARY KEY (topic, topic_id, partition)
) WITHOUT ROWID;

CREATE TABLE sent_to (                    -- the topic of this name to which files were sent last
    topic    TEXT PRIMARY KEY,
    topic_id TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE bad_receipt (
    topic   TEXT NOT NULL,                -- that of the files
    reason  TEXT NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (topic, reason)
) WITHOUT ROWID;

CREATE TABLE disposal (                   -- delivered files to be deleted or moved
    id       INTEGER PRIMARY KEY,         -- that of the transfer
    tid      BLOB NOT NULL,
    route    TEXT NOT NULL,
    path     BLOB NOT NULL,
    source   BLOB NOT NULL,
    device   INTEGER NOT NULL,
    inode    INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL
);
CREATE INDEX disposal_route ON disposal (route);
CREATE INDEX outgoing_asked ON outgoing (source)       -- what people asked for isn't disposed of
    WHERE uid IS NOT NULL AND state IN ('queued', 'sending');

-- Receiving: what senders are to be told.

CREATE TABLE receipt (
    id     INTEGER PRIMARY KEY,
    topic  TEXT NOT NULL,                 -- that of the files
    sender BLOB,                          -- the sending ledger's instance; NULL: not known
    count  INTEGER NOT NULL,              -- of transfers
    record BLOB NOT NULL                  -- the receipts as they go to Kafka
);
CREATE INDEX receipt_topic ON receipt (topic);
"""

VERSION_3 = """
-- Sending: files that kfd can't open by their path have a copy in the spool.

ALTER TABLE outgoing ADD COLUMN spool TEXT;       -- the name of the copy, while it is held
CREATE INDEX outgoing_spool ON outgoing (state, uid, id, size) WHERE spool IS NOT NULL;

-- What is in Kafka and not delivered, in the order in which a topic drops it.

CREATE INDEX outgoing_in_kafka ON outgoing (topic, topic_id, partition, first_offset)
    WHERE state = 'in_kafka';

-- What people ask of transfers and routes.

ALTER TABLE outgoing ADD COLUMN begun_at REAL;    -- when it was taken to be sent
ALTER TABLE outgoing ADD COLUMN receivers TEXT NOT NULL DEFAULT '';  -- who confirmed it: names, ' '
CREATE INDEX outgoing_given_up ON outgoing (state) WHERE state IN ('failed', 'cancelled');
CREATE INDEX outgoing_successor ON outgoing (successor) WHERE successor IS NOT NULL;
CREATE INDEX incoming_refused ON incoming (state)
    WHERE state IN ('quarantined', 'expired', 'superseded');

CREATE TABLE paused_route (               -- '': what is sent without a route
    name  TEXT PRIMARY KEY,
    since REAL NOT NULL
) WITHOUT ROWID;
"""

VERSION_4 = """
-- Receiving: what couldn't be published, until somebody decides about it.

CREATE TABLE quarantine (
    id         INTEGER PRIMARY KEY,       -- that of the transfer in incoming
    route      TEXT NOT NULL,
    size       INTEGER NOT NULL,
    mtime_ns   INTEGER NOT NULL,          -- as the sender said: that of incoming is the file's
    mode       INTEGER NOT NULL,
    held       INTEGER NOT NULL,          -- 1: its content is in the route's .kfd/quarantine
    reason     TEXT NOT NULL,             -- why it wasn't published
    note       TEXT NOT NULL,             -- why its content isn't held
    entered_at REAL NOT NULL
);
CREATE INDEX quarantine_held ON quarantine (id, route, size) WHERE held;

CREATE TABLE scattered (                  -- transfers whose records lie on all partitions
    route      TEXT NOT NULL,
    topic_id   TEXT NOT NULL,
    version    BLOB NOT NULL,             -- digest of path, content, number and size of chunks
    upload     INTEGER NOT NULL,          -- how often the same version had ended here before
    tid        BLOB NOT NULL,             -- as in incoming, which says what became of it
    path       BLOB NOT NULL,
    generation INTEGER NOT NULL,
    last_at    INTEGER NOT NULL,          -- timestamp of its latest record, ms since the epoch
    repeated   INTEGER NOT NULL,          -- 1: some came again
    lasts      TEXT NOT NULL,             -- JSON: partition -> its highest offset there
    PRIMARY KEY (route, topic_id, version, upload)
) WITHOUT ROWID;
CREATE INDEX scattered_path ON scattered (route, topic_id, path, generation);
CREATE INDEX scattered_tid ON scattered (tid);
CREATE TRIGGER scattered_forgotten AFTER DELETE ON incoming BEGIN
    DELETE FROM scattered
        WHERE (tid, route, topic_id) = (OLD.tid, OLD.route, OLD.topic_id);
END;

INSERT INTO quarantine
    SELECT id, route, size, mtime_ns, 0, 0, reason, 'earlier versions of kfd kept none', ended_at
    FROM incoming WHERE state = 'quarantined' ORDER BY id DESC LIMIT 10000;

-- Sending: in which format. What goes by openmsistream's gets no receipts, and waits for none.

ALTER TABLE outgoing ADD COLUMN format TEXT NOT NULL DEFAULT 'kfd';
DROP INDEX outgoing_in_kafka;
CREATE INDEX outgoing_in_kafka ON outgoing (format, topic, topic_id, partition, first_offset)
    WHERE state = 'in_kafka';

-- The catalogue: which sink is still to be told of which file.

CREATE TABLE catalogue_sink (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,  -- never that of one that is gone
    name            TEXT NOT NULL UNIQUE,
    sent            TEXT NOT NULL,        -- told of what is sent: 'false', 'in-kafka', 'delivered'
    memory          TEXT NOT NULL DEFAULT '',           -- its own
    written         INTEGER NOT NULL DEFAULT 0,
    written_at      REAL,
    again_kind      INTEGER,              -- it is told of everything once more: of this kind,
    again_after     INTEGER               -- and of what comes after this number
);

CREATE TABLE catalogue_row (
    sink INTEGER NOT NULL,
    kind INTEGER NOT NULL,                -- 0: added_file, 1: incoming, 2: outgoing
    ref  INTEGER NOT NULL,                -- the id there
    PRIMARY KEY (sink, kind, ref)
) WITHOUT ROWID;

CREATE TABLE catalogue_refused (          -- for good; nobody tries again before he is told to
    sink       INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    ref        INTEGER NOT NULL,
    reason     TEXT NOT NULL,
    refused_at REAL NOT NULL,
    PRIMARY KEY (sink, kind, ref)
) WITHOUT ROWID;
CREATE INDEX catalogue_refused_at ON catalogue_refused (kind, refused_at);

CREATE TABLE added_file (                 -- by kfdctl catalogue add, without being sent
    id       INTEGER PRIMARY KEY,
    tid      BLOB NOT NULL UNIQUE,
    path     BLOB NOT NULL,
    source   BLOB NOT NULL,
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    digest   BLOB NOT NULL,
    meta     TEXT NOT NULL,
    uid      INTEGER NOT NULL,
    added_at REAL NOT NULL
);
"""

MIGRATIONS: tuple[str, ...] = (VERSION_1, VERSION_2, VERSION_3, VERSION_4)
"""``MIGRATIONS[n]`` brings a ledger of version n to version n + 1."""
