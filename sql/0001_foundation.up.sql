-- SPDX-License-Identifier: Apache-2.0
-- The ground: roles, the epoch and the list of administrative changes.
-- Roles are shared by all databases of a cluster: one that exists already is kept as it is.

DO $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY ARRAY['headgate_api', 'headgate_committer', 'headgate_loader', 'headgate_worker', 'headgate_auditor'] LOOP
		IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
			BEGIN
				EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', name);
			EXCEPTION WHEN duplicate_object OR unique_violation THEN
				NULL; -- another database's migration was faster
			END;
		END IF;
	END LOOP;
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'headgate') THEN
		BEGIN
			CREATE ROLE headgate LOGIN NOINHERIT;
		EXCEPTION WHEN duplicate_object OR unique_violation THEN
			NULL;
		END;
	END IF;
	-- the programs log in as headgate and take one of these with SET LOCAL ROLE in every transaction
	FOREACH name IN ARRAY ARRAY['headgate_api', 'headgate_committer', 'headgate_loader', 'headgate_worker'] LOOP
		IF NOT EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles u ON u.oid = m.member
				WHERE r.rolname = name AND u.rolname = 'headgate') THEN
			EXECUTE format('GRANT %I TO headgate', name);
		END IF;
	END LOOP;
END
$$;

REVOKE ALL ON SCHEMA headgate FROM PUBLIC;
GRANT USAGE ON SCHEMA headgate TO headgate, headgate_api, headgate_committer, headgate_loader, headgate_worker, headgate_auditor;

-- start-up compares the newest migration with what the program needs
GRANT SELECT ON headgate.schema_migrations TO headgate, headgate_api, headgate_committer, headgate_loader, headgate_worker, headgate_auditor;

-- The epoch counts administrative changes. Its one row is locked from change() to COMMIT, so epochs become visible in order and
-- without gaps: who sees epoch N sees every change up to N.
CREATE TABLE headgate.epoch (
	one boolean PRIMARY KEY DEFAULT true CHECK (one),
	epoch bigint NOT NULL
);
INSERT INTO headgate.epoch (epoch) VALUES (0);

CREATE TABLE headgate.changes (
	epoch bigint PRIMARY KEY,
	kind text NOT NULL CHECK (kind <> ''),
	id uuid, -- NULL: everything of this kind
	at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX changes_at ON headgate.changes (at);

-- The last statement of every administrative write.
CREATE FUNCTION headgate.change(kind text, id uuid) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = headgate, pg_catalog, pg_temp
AS $$
	WITH next AS (UPDATE headgate.epoch SET epoch = epoch + 1 RETURNING epoch)
	INSERT INTO headgate.changes (epoch, kind, id) SELECT next.epoch, $1, $2 FROM next RETURNING epoch
$$;

-- The organization of the transaction, for row-level security; NULL when it has none.
CREATE FUNCTION headgate.current_organization() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT nullif(current_setting('headgate.organization', true), '')::uuid $$;

REVOKE EXECUTE ON FUNCTION headgate.change(text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION headgate.change(text, uuid) TO headgate_api, headgate_worker;
GRANT EXECUTE ON FUNCTION headgate.current_organization() TO headgate_api, headgate_committer, headgate_loader, headgate_worker, headgate_auditor;
GRANT SELECT ON headgate.epoch, headgate.changes TO headgate_api, headgate_committer, headgate_loader, headgate_worker, headgate_auditor;
GRANT DELETE ON headgate.changes TO headgate_worker; -- old ones are swept
