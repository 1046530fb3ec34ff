-- SPDX-License-Identifier: Apache-2.0
-- Rows in every table, for the test that takes migrations up, down and up again on filled tables. A migration that makes a table
-- adds rows of it here; the test fails for a table that stays empty.
select headgate.change('key', gen_random_uuid()) from generate_series(1, 1000);

insert into headgate.organizations (id, name) select ('00000000-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid, 'organization ' || i from generate_series(1, 50) i;
insert into headgate.users (id, email, password_phc, pepper_id) select id, 'user' || row_number() over () || '@example.com', '$argon2id$x', 'k1' from headgate.organizations;
insert into headgate.members (organization_id, user_id, role) select id, id, 'owner' from headgate.organizations;
insert into headgate.projects (organization_id, id, name, is_default) select id, id, 'default', true from headgate.organizations;
insert into headgate.api_keys (organization_id, id, project_id, user_id, name, digest, pepper_id, prefix, last4, scopes)
	select id, gen_random_uuid(), id, id, 'key ' || i, sha256((id::text || i)::bytea), 'k1', 'hg_abc', 'wxyz', array['read', 'write']
	from headgate.organizations, generate_series(1, 20) i;

insert into headgate.providers (id, name, kind, base_url) select gen_random_uuid(), 'provider ' || i, 'openai', 'https://example.com/v1' from generate_series(1, 10) i;
insert into headgate.provider_keys (provider_id, id, secret, seal_id, last4, position) select id, gen_random_uuid(), '\x00', 'k1', 'wxyz', 0 from headgate.providers;
insert into headgate.models (id, name) select gen_random_uuid(), 'model-' || i || '*' from generate_series(1, 10) i;
insert into headgate.model_targets (model_id, position, provider_id) select m.id, 0, p.id from headgate.models m, lateral (select id from headgate.providers limit 1) p;

insert into headgate.prices (id, provider_id, model, version, effective_from, input_nusd, output_nusd)
	select gen_random_uuid(), id, '*', 1, now(), 1000000000, 2000000000 from headgate.providers;
insert into headgate.requests (organization_id, day, id, created_at, dialect, endpoint, stream, status, model_requested,
	input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, settled_by, duration_us)
	select o.id, (now() at time zone 'UTC')::date - d, gen_random_uuid(), now() - d * interval '1 day', 'openai_chat', '/v1/chat/completions', false, 200, 'm',
	1, 0, 0, 1, 0, 1, 1000 from headgate.organizations o, generate_series(0, 20) d;
insert into headgate.attempts (organization_id, day, request_id, number, id, status, started_at, duration_us,
	input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, settled_by, complete)
	select organization_id, day, id, 1, gen_random_uuid(), 200, created_at, 900, 1, 0, 0, 1, 0, 1, true from headgate.requests;
insert into headgate.usage_rollups (organization_id, bucket, project_id, user_id, key_id, provider_id, provider, model, shard, requests, errors, unpriced,
	input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_nusd, saved_nusd)
	select id, date_trunc('hour', now()), id, id, id, id, 'p', 'm', 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0 from headgate.organizations;
