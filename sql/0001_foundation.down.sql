-- SPDX-License-Identifier: Apache-2.0
-- Takes away what 0001 made. A role that another database still uses, or that this user may not drop, stays, with a notice.

DROP FUNCTION headgate.current_organization();
DROP FUNCTION headgate.change(text, uuid);
DROP TABLE headgate.changes;
DROP TABLE headgate.epoch;

REVOKE ALL ON headgate.schema_migrations FROM headgate, headgate_api, headgate_committer, headgate_loader, headgate_worker, headgate_auditor;
REVOKE ALL ON SCHEMA headgate FROM headgate, headgate_api, headgate_committer, headgate_loader, headgate_worker, headgate_auditor;

DO $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY ARRAY['headgate', 'headgate_api', 'headgate_committer', 'headgate_loader', 'headgate_worker', 'headgate_auditor'] LOOP
		BEGIN
			EXECUTE format('DROP ROLE IF EXISTS %I', name);
		EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege OR object_in_use THEN
			RAISE NOTICE 'role % stays: it is in use', name;
		END;
	END LOOP;
END
$$;
