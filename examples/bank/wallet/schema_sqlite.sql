-- Transfers and their entries: append-only, enforced by triggers. `seq` counts an account's entries from 1.
CREATE TABLE IF NOT EXISTS transfers (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('deposit', 'payment', 'rollback')),
    source TEXT NOT NULL,
    destination TEXT NOT NULL CHECK (destination <> source),
    amount INTEGER NOT NULL CHECK (amount BETWEEN 1 AND 1000000000000),
    at REAL NOT NULL,
    original TEXT UNIQUE REFERENCES transfers (id),
    reason TEXT NOT NULL,
    person TEXT,
    workload TEXT,
    CHECK ((kind = 'rollback') = (original IS NOT NULL))
) STRICT;
CREATE TABLE IF NOT EXISTS entries (
    account TEXT NOT NULL,
    seq INTEGER NOT NULL CHECK (seq > 0),
    transfer INTEGER NOT NULL REFERENCES transfers (seq),
    amount INTEGER NOT NULL CHECK (amount <> 0),
    balance INTEGER NOT NULL CHECK (balance >= 0 OR account = 'system:deposits'),
    PRIMARY KEY (account, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entries_of_transfer ON entries (transfer);
CREATE INDEX IF NOT EXISTS transfers_by_time ON transfers (at);
CREATE TABLE IF NOT EXISTS requests (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    body_hash TEXT NOT NULL,
    outcome TEXT NOT NULL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    event TEXT NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS transfers_keep BEFORE UPDATE ON transfers BEGIN SELECT RAISE(ABORT, 'transfers are append-only'); END;
CREATE TRIGGER IF NOT EXISTS transfers_stay BEFORE DELETE ON transfers BEGIN SELECT RAISE(ABORT, 'transfers are append-only'); END;
CREATE TRIGGER IF NOT EXISTS entries_keep BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
CREATE TRIGGER IF NOT EXISTS entries_stay BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
CREATE TRIGGER IF NOT EXISTS requests_keep BEFORE UPDATE ON requests BEGIN SELECT RAISE(ABORT, 'requests are append-only'); END;
CREATE TRIGGER IF NOT EXISTS requests_stay BEFORE DELETE ON requests BEGIN SELECT RAISE(ABORT, 'requests are append-only'); END;
-- Each entry continues its account's history: the next number, and a balance that is the sum.
CREATE TRIGGER IF NOT EXISTS entries_chain BEFORE INSERT ON entries
WHEN NEW.seq <> 1 + coalesce((SELECT max(seq) FROM entries WHERE account = NEW.account), 0)
    OR NEW.balance <> NEW.amount + coalesce((SELECT balance FROM entries WHERE account = NEW.account ORDER BY seq DESC LIMIT 1), 0)
BEGIN SELECT RAISE(ABORT, 'an entry must continue its account'); END;
