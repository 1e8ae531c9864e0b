-- The tables of a log, and the functions that change it. To use another schema than "sse", change
-- its name in the next two statements, and nowhere else.
CREATE SCHEMA IF NOT EXISTS sse;
SET LOCAL search_path TO sse, pg_temp;

CREATE TABLE version (
	version int         PRIMARY KEY, -- that of a file with migrations
	applied timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What transactions have published and no number yet. A row is here from the moment when it is
-- inserted until some time after its transaction has committed.
CREATE TABLE inbox (
	xid    xid8   NOT NULL DEFAULT pg_current_xact_id(),
	id     bigint GENERATED ALWAYS AS IDENTITY (CACHE 1), -- the order in which they were published
	topic  bytea  NOT NULL,
	key    bytea,
	record bytea  NOT NULL,
	PRIMARY KEY (xid, id)
);

-- The records of the log. They are only inserted, and deleted from the lowest number on.
CREATE TABLE log (
	number bigint      PRIMARY KEY,
	at     timestamptz NOT NULL, -- when it got its number
	topic  bytea       NOT NULL,
	key    bytea,
	record bytea       NOT NULL
);
CREATE INDEX log_topic ON log (topic, number);
CREATE UNIQUE INDEX log_key ON log (topic, key) WHERE key IS NOT NULL;

-- The newest row is the state of the log. A row is never updated: while any transaction of the
-- database stays open, the old versions of a row that is updated often could not be removed, and
-- would make it slow to find.
CREATE TABLE state (
	n         bigint      PRIMARY KEY,
	at        timestamptz NOT NULL,
	epoch     bigint      NOT NULL,
	first     bigint      NOT NULL, -- number of the first record, or last + 1
	last      bigint      NOT NULL, -- number of the last record that there ever was, or 0
	numbered  pg_snapshot NOT NULL, -- all transactions that it sees have numbers
	system    bigint      NOT NULL, -- which cluster gave them
	timeline  int         NOT NULL  -- in which of its histories
);

-- When transactions have last notified, in milliseconds. It is a sequence because that can be set
-- and read without waiting for transactions, and without leaving versions of a row behind.
CREATE SEQUENCE notified AS bigint MINVALUE 0 START 0;

-- new_epoch returns an epoch that no other log is likely to have had.
CREATE FUNCTION new_epoch() RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT 78364164096 + ('x' || left(md5(gen_random_uuid()::text), 15))::bit(60)::bigint % (35 * 78364164096) $$;

-- timeline returns in which history of the cluster the server is: a standby that is promoted, and
-- a backup that is restored, begin another one.
CREATE FUNCTION timeline() RETURNS int LANGUAGE sql VOLATILE AS
$$ SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int $$;

INSERT INTO state SELECT 1, clock_timestamp(), new_epoch(), 1, 0, pg_current_snapshot(), (SELECT system_identifier FROM pg_control_system()), timeline();

-- locking waits until nobody else changes the log, or returns false if it need not wait. The lock
-- is held until the end of the transaction.
CREATE FUNCTION locking(wait boolean) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	IF pg_is_in_recovery() THEN
		RAISE 'the log cannot be changed on a standby' USING ERRCODE = 'read_only_sql_transaction';
	END IF;
	IF current_setting('transaction_isolation') <> 'read committed' OR pg_current_xact_id_if_assigned() IS NOT NULL THEN
		RAISE 'the log must be changed in a transaction of its own, which must be read committed' USING ERRCODE = 'invalid_transaction_state';
	END IF;
	IF current_setting('synchronous_commit') = 'off' THEN -- nobody may see a number that a crash can take away
		PERFORM set_config('synchronous_commit', 'on', true);
	END IF;
	IF NOT wait THEN
		RETURN pg_try_advisory_xact_lock('state'::regclass::oid::bigint);
	END IF;
	PERFORM pg_advisory_xact_lock('state'::regclass::oid::bigint);
	RETURN true;
END $$;

-- advanced makes a row the newest state, tells the hubs, and returns it.
CREATE FUNCTION advanced(s state) RETURNS state LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	s.n := s.n + 1;
	INSERT INTO state SELECT s.*;
	IF s.n % 1000 = 0 THEN
		DELETE FROM state WHERE n >= s.n - 2000 AND n < s.n - 1000;
	END IF;
	PERFORM pg_notify(current_schema(), s.last::text);
	RETURN s;
END $$;

-- checked returns the newest state, which it gets. It begins another epoch if the server may lack
-- what the server had that gave the last number.
CREATE FUNCTION checked(s state) RETURNS state LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	system bigint  := (SELECT c.system_identifier FROM pg_control_system() c);
	ahead  boolean := pg_snapshot_xmax(s.numbered) > pg_snapshot_xmax(pg_current_snapshot());
BEGIN
	IF s.system = system AND s.timeline = timeline() AND NOT ahead THEN
		RETURN s;
	END IF;
	IF s.system <> system OR ahead THEN -- the tables come from another cluster, so its transactions are not those of this one
		UPDATE inbox SET xid = '3'; -- which all snapshots see, but one
		s.numbered := '3:3:';
	END IF;
	s.epoch := new_epoch();
	s.system := system;
	s.timeline := timeline();
	RETURN advanced(s);
END $$;

-- without returns the snapshot of the transactions before a bound that another one sees, but for
-- those that wait.
CREATE FUNCTION without(seen pg_snapshot, bound xid8, waiting xid8[]) RETURNS pg_snapshot LANGUAGE sql VOLATILE AS $$
	SELECT format('%s:%s:%s', coalesce(min(x::text::bigint), bound::text::bigint), bound, string_agg(x::text, ',' ORDER BY x))::pg_snapshot
	FROM (SELECT pg_snapshot_xip(seen) UNION SELECT unnest(waiting)) xs(x) WHERE x < bound
$$;

-- numbering numbers what the snapshot sees and has no number yet. The transactions have the order
-- in which they have published last: one that has seen what another has committed, and published
-- then, comes after it. If there are more than about most records, only some are numbered, but no
-- transaction in part, and none before one that it must come after. It returns the newest state, how
-- many records that were, and whether there are more.
CREATE FUNCTION numbering(seen pg_snapshot, most int, OUT s state, OUT count bigint, OUT more boolean) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	since   xid8;
	until   xid8   := pg_snapshot_xmax(seen);
	late    xid8[];
	many    bigint;
	keys    bigint;
	bound   xid8;
	next    bigint;
	waiting xid8[];
BEGIN
	SELECT * INTO STRICT s FROM state ORDER BY n DESC LIMIT 1;
	count := 0;
	more := false;
	IF pg_snapshot_xmax(s.numbered) > until THEN
		s := checked(s);
	END IF;
	since := pg_snapshot_xmax(s.numbered);
	late := ARRAY(SELECT x FROM pg_snapshot_xip(s.numbered) x WHERE pg_visible_in_snapshot(x, seen));
	SELECT count(*), count(i.key) INTO many, keys FROM inbox i
		WHERE i.xid = ANY(late) OR i.xid >= since AND i.xid < until AND pg_visible_in_snapshot(i.xid, seen);
	IF many = 0 THEN
		IF until > since AND clock_timestamp() - s.at > interval '1 second' THEN -- what is still open, or rolled back, need not be looked at again
			s.at := clock_timestamp();
			s.numbered := seen;
			s := advanced(s);
		END IF;
		RETURN;
	END IF;
	s := checked(s);
	since := pg_snapshot_xmax(s.numbered);
	WHILE many > most LOOP
		SELECT i.xid INTO bound FROM inbox i WHERE i.xid >= since AND i.xid < until ORDER BY i.xid OFFSET most LIMIT 1;
		EXIT WHEN bound IS NULL;
		bound := (bound::text::bigint + 1)::text::xid8;
		SELECT min(i.id) INTO next FROM inbox i WHERE i.xid >= bound AND i.xid < until AND pg_visible_in_snapshot(i.xid, seen);
		EXIT WHEN next IS NULL;
		SELECT array_agg(t.xid) FILTER (WHERE t.id > next), count(*) FILTER (WHERE t.id < next) INTO waiting, many FROM (
			SELECT i.xid, max(i.id) AS id FROM inbox i
			WHERE i.xid = ANY(late) OR i.xid >= since AND i.xid < bound AND pg_visible_in_snapshot(i.xid, seen) GROUP BY i.xid
		) t;
		IF many > 0 THEN
			more := true;
			until := bound;
			seen := without(seen, bound, waiting);
			late := ARRAY(SELECT unnest(late) EXCEPT SELECT unnest(waiting));
			EXIT;
		END IF;
		most := 4 * most;
		many := most + 1;
	END LOOP;
	IF keys > 0 THEN -- delete what is there already
		WITH new AS (
			SELECT i.xid, i.id, i.topic, i.key, max(i.id) OVER (PARTITION BY i.xid) AS place FROM inbox i
			WHERE i.xid = ANY(late) OR i.xid >= since AND i.xid < until AND pg_visible_in_snapshot(i.xid, seen)
		), again AS (
			SELECT n.xid, n.id, n.topic, n.key, row_number() OVER (PARTITION BY n.topic, n.key ORDER BY n.place, n.id) > 1 AS here FROM new n WHERE n.key IS NOT NULL
		)
		DELETE FROM inbox i USING again a
			WHERE i.xid = a.xid AND i.id = a.id AND (a.here OR EXISTS (SELECT FROM log l WHERE l.topic = a.topic AND l.key = a.key));
	END IF;
	s.at := GREATEST(s.at, clock_timestamp());
	WITH taken AS (
		DELETE FROM inbox i WHERE i.xid = ANY(late) OR i.xid >= since AND i.xid < until AND pg_visible_in_snapshot(i.xid, seen)
		RETURNING i.*
	)
	INSERT INTO log SELECT s.last + row_number() OVER (ORDER BY t.place, t.id), s.at, t.topic, t.key, t.record
		FROM (SELECT *, max(id) OVER (PARTITION BY xid) AS place FROM taken) t;
	GET DIAGNOSTICS count = ROW_COUNT;
	s.last := s.last + count;
	s.numbered := seen;
	s := advanced(s);
END $$;

-- number numbers what has been committed, unless somebody else changes the log. It returns how many
-- records that were, and whether there are more.
CREATE FUNCTION number(most int, OUT free boolean, OUT count bigint, OUT more boolean) LANGUAGE plpgsql VOLATILE
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
	seen pg_snapshot;
BEGIN
	free := locking(false);
	count := 0;
	more := false;
	IF free THEN
		SELECT pg_current_snapshot() INTO seen;
		SELECT r.count, r.more INTO count, more FROM numbering(seen, most) r;
	END IF;
END $$;

-- append numbers what has been committed, and appends records after it. It returns the number of
-- each; that of the earlier record if one of the topic has its key. It returns no numbers if so much
-- has been committed that append must be called again.
CREATE FUNCTION append(topics bytea[], keys bytea[], records bytea[], most int, OUT epoch bigint, OUT numbers bigint[]) LANGUAGE plpgsql VOLATILE
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
	r      record;
	s      state;
	seen   pg_snapshot;
	before bigint;
	found  bigint;
BEGIN
	PERFORM locking(true);
	SELECT pg_current_snapshot() INTO seen;
	SELECT * INTO r FROM numbering(seen, most);
	IF r.more THEN
		RETURN;
	END IF;
	s := checked(r.s);
	s.at := GREATEST(s.at, clock_timestamp());
	epoch := s.epoch;
	before := s.last;
	IF num_nonnulls(VARIADIC keys) = 0 THEN
		INSERT INTO log SELECT before + i.ord, s.at, i.topic, NULL, i.record FROM unnest(topics, records) WITH ORDINALITY i(topic, record, ord);
		s.last := before + cardinality(topics);
		numbers := ARRAY(SELECT generate_series(before + 1, s.last));
	ELSE
		FOR r IN SELECT * FROM unnest(topics, keys, records) WITH ORDINALITY i(topic, key, record, ord) ORDER BY i.ord LOOP
			SELECT l.number INTO found FROM log l WHERE l.topic = r.topic AND l.key = r.key;
			IF found IS NULL THEN
				s.last := s.last + 1;
				found := s.last;
				INSERT INTO log VALUES (found, s.at, r.topic, r.key, r.record);
			END IF;
			numbers := numbers || found;
		END LOOP;
	END IF;
	IF s.last > before THEN
		PERFORM advanced(s);
	END IF;
END $$;

-- hold keeps everybody else from changing the log until the end of the transaction, and returns
-- the newest state.
CREATE FUNCTION hold(OUT n bigint) LANGUAGE plpgsql VOLATILE
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	PERFORM locking(true);
	SELECT max(state.n) INTO STRICT n FROM state;
END $$;

-- number_seen numbers what a snapshot sees that was taken during a hold, and returns the last
-- number.
CREATE FUNCTION number_seen(seen text, most int, OUT epoch bigint, OUT last bigint) LANGUAGE plpgsql VOLATILE
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
	r record;
	s state;
BEGIN
	PERFORM pg_advisory_xact_lock('state'::regclass::oid::bigint);
	LOOP
		SELECT * INTO r FROM numbering(seen::pg_snapshot, most);
		EXIT WHEN NOT r.more;
	END LOOP;
	s := checked(r.s);
	epoch := s.epoch;
	last := s.last;
END $$;

-- retain deletes some of the oldest records, if they are older than an age, or more than a number
-- come after them. It returns how many, or NULL if somebody else changes the log.
CREATE FUNCTION retain(age interval, keep bigint, most int) RETURNS bigint LANGUAGE plpgsql VOLATILE
SECURITY DEFINER SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
	s     state;
	upto  bigint;
	count bigint;
BEGIN
	IF NOT locking(false) THEN
		RETURN NULL;
	END IF;
	SELECT * INTO STRICT s FROM state ORDER BY n DESC LIMIT 1;
	SELECT max(x.number) INTO upto FROM (
		SELECT l.number, l.at, sum(octet_length(l.record)) OVER (ORDER BY l.number ROWS UNBOUNDED PRECEDING) - octet_length(l.record) AS before
		FROM (SELECT * FROM log WHERE log.number >= s.first ORDER BY log.number LIMIT most) l
	) x WHERE x.before < 32 * 1024 * 1024 AND (x.number <= s.last - keep OR x.at < clock_timestamp() - age);
	IF upto IS NULL THEN
		RETURN 0;
	END IF;
	DELETE FROM log WHERE number >= s.first AND number <= upto;
	GET DIAGNOSTICS count = ROW_COUNT;
	s.first := upto + 1;
	PERFORM advanced(s);
	RETURN count;
END $$;

-- renew begins another epoch after one in which numbers may come twice.
CREATE FUNCTION renew(old bigint) RETURNS void LANGUAGE plpgsql VOLATILE
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
	s state;
BEGIN
	PERFORM locking(true);
	SELECT * INTO STRICT s FROM state ORDER BY n DESC LIMIT 1;
	IF s.epoch = old THEN
		s.epoch := new_epoch();
		PERFORM advanced(s);
	END IF;
END $$;

-- wake notifies the hubs that something was published, but not more than about 20 times a second:
-- while a transaction that notifies commits, no other one that does can.
CREATE FUNCTION wake() RETURNS trigger LANGUAGE plpgsql VOLATILE
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	PERFORM setval('notified', (1000 * date_part('epoch', clock_timestamp()))::bigint), pg_notify(current_schema(), '');
	RETURN NULL;
END $$;
DO $$ BEGIN PERFORM setval('notified', 0); END $$;
CREATE TRIGGER wake AFTER INSERT ON inbox FOR EACH STATEMENT
	WHEN (abs(1000 * date_part('epoch', clock_timestamp()) - pg_sequence_last_value('notified')) > 50) EXECUTE FUNCTION wake();

-- Nobody may call the functions until it is granted. All may see when something was notified.
REVOKE ALL ON FUNCTION new_epoch, timeline, locking, advanced, checked, without, numbering, number, append, hold, number_seen, retain, renew, wake FROM PUBLIC;
GRANT SELECT ON SEQUENCE notified TO PUBLIC;

INSERT INTO version VALUES (1);
