-- Transfers and their entries: append-only, enforced by triggers. `seq` counts an account's entries from 1.
-- `xid` orders transfers for paging: a page shows only what no transaction still under way can come before.
CREATE TABLE IF NOT EXISTS transfers (
    id text COLLATE "C" PRIMARY KEY,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    kind text NOT NULL CHECK (kind IN ('deposit', 'payment', 'rollback')),
    source text COLLATE "C" NOT NULL,
    destination text COLLATE "C" NOT NULL CHECK (destination <> source),
    amount bigint NOT NULL CHECK (amount BETWEEN 1 AND 1000000000000),
    at double precision NOT NULL,
    original text COLLATE "C" UNIQUE REFERENCES transfers (id),
    reason text NOT NULL,
    person text,
    workload text,
    CHECK ((kind = 'rollback') = (original IS NOT NULL))
);
CREATE INDEX IF NOT EXISTS transfers_in_order ON transfers (xid, seq);
CREATE TABLE IF NOT EXISTS entries (
    account text COLLATE "C" NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    transfer text COLLATE "C" NOT NULL REFERENCES transfers (id),
    amount bigint NOT NULL CHECK (amount <> 0),
    balance bigint NOT NULL CHECK (balance >= 0 OR account = 'system:deposits'),
    PRIMARY KEY (account, seq)
);
CREATE INDEX IF NOT EXISTS entries_of_transfer ON entries (transfer);
CREATE TABLE IF NOT EXISTS requests (
    scope text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    body_hash text NOT NULL,
    outcome text NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE TABLE IF NOT EXISTS outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    event text NOT NULL
);

CREATE OR REPLACE FUNCTION bank_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
CREATE OR REPLACE TRIGGER transfers_keep BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers EXECUTE FUNCTION bank_keep();
CREATE OR REPLACE TRIGGER entries_keep BEFORE UPDATE OR DELETE OR TRUNCATE ON entries EXECUTE FUNCTION bank_keep();
CREATE OR REPLACE TRIGGER requests_keep BEFORE UPDATE OR DELETE OR TRUNCATE ON requests EXECUTE FUNCTION bank_keep();

-- Each entry continues its account's history: the next number, and a balance that is the sum.
CREATE OR REPLACE FUNCTION bank_chain() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before entries;
BEGIN
    SELECT * INTO before FROM entries WHERE account = NEW.account ORDER BY seq DESC LIMIT 1;
    IF NEW.seq <> coalesce(before.seq, 0) + 1 OR NEW.balance <> coalesce(before.balance, 0) + NEW.amount THEN
        RAISE EXCEPTION 'an entry must continue its account';
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER entries_chain BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION bank_chain();

-- One order, whole. `event` is what the audit trail keeps if it takes place, `refusal` if it doesn't (its reason is added here).
-- Locks: the key first, then the accounts in one order for all, so that no two orders wait for each other.
CREATE OR REPLACE FUNCTION bank_transfer(
    p_id text, p_kind text, p_source text, p_destination text, p_amount bigint, p_at double precision, p_scope text, p_key text,
    p_body_hash text, p_original text, p_reason text, p_person text, p_workload text, p_event_id text, p_event text, p_refusal jsonb,
    p_max_balance bigint
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    known requests;
    from_entry entries;
    to_entry entries;
    from_balance bigint;
    to_balance bigint;
    refused text := '';
    outcome text;
    first bigint := hashtextextended(least(p_source, p_destination), 0);
    second bigint := hashtextextended(greatest(p_source, p_destination), 0);
BEGIN
    IF p_key <> '' THEN
        PERFORM pg_advisory_xact_lock(1, hashtext(p_scope || ' ' || p_key));
        SELECT * INTO known FROM requests WHERE scope = p_scope AND key = p_key;
        IF FOUND AND known.body_hash = p_body_hash THEN
            RETURN known.outcome;
        ELSIF FOUND THEN
            INSERT INTO outbox (id, event) VALUES (p_event_id, (p_refusal || '{"reason": "idempotency_conflict"}')::text);
            RETURN jsonb_build_object('transaction_id', p_id, 'at', p_at, 'refused', 'idempotency_conflict')::text;
        END IF;
    END IF;
    PERFORM pg_advisory_xact_lock(least(first, second));
    PERFORM pg_advisory_xact_lock(greatest(first, second));
    SELECT * INTO from_entry FROM entries WHERE account = p_source ORDER BY seq DESC LIMIT 1;
    SELECT * INTO to_entry FROM entries WHERE account = p_destination ORDER BY seq DESC LIMIT 1;
    from_balance := coalesce(from_entry.balance, 0);
    to_balance := coalesce(to_entry.balance, 0);
    IF p_original IS NOT NULL AND EXISTS (SELECT 1 FROM transfers WHERE original = p_original) THEN
        refused := 'already_rolled_back';
    ELSIF p_source <> 'system:deposits' AND from_balance < p_amount THEN
        refused := 'insufficient_funds';
    ELSIF p_destination <> 'system:deposits' AND to_balance + p_amount > p_max_balance THEN
        refused := 'balance_limit';
    ELSE
        from_balance := from_balance - p_amount;
        to_balance := to_balance + p_amount;
        INSERT INTO transfers (id, kind, source, destination, amount, at, original, reason, person, workload)
            VALUES (p_id, p_kind, p_source, p_destination, p_amount, p_at, p_original, p_reason, p_person, p_workload);
        INSERT INTO entries (account, seq, transfer, amount, balance) VALUES
            (p_source, coalesce(from_entry.seq, 0) + 1, p_id, -p_amount, from_balance),
            (p_destination, coalesce(to_entry.seq, 0) + 1, p_id, p_amount, to_balance);
    END IF;
    outcome := jsonb_build_object(
        'transaction_id', p_id, 'at', p_at, 'source_balance', from_balance, 'destination_balance', to_balance, 'refused', refused
    )::text;
    INSERT INTO outbox (id, event) VALUES (
        p_event_id, CASE refused WHEN '' THEN p_event ELSE (p_refusal || jsonb_build_object('reason', refused))::text END
    );
    IF p_key <> '' THEN
        INSERT INTO requests (scope, key, body_hash, outcome) VALUES (p_scope, p_key, p_body_hash, outcome);
    END IF;
    RETURN outcome;
END $$;
