-- SPDX-License-Identifier: Apache-2.0
-- The ledger: a row per request, a row per attempt, usage in buckets of 15 minutes, prices.
-- requests and attempts are partitioned by `day`, which comes out of the request's UUIDv7 and never out of now(), so the place
-- of a row is known from its id and a replay meets the row it made before. No foreign keys to other rooms' tables: history
-- outlives keys, users, providers and models. Money is nano-dollars, prices are nano-dollars per 1,000,000 units.

create table headgate.requests (
	organization_id uuid not null,
	day date not null,		-- UTC, of the id
	id uuid not null,
	project_id uuid,
	user_id uuid,
	key_id uuid,
	created_at timestamptz not null,	-- the milliseconds in the id
	dialect text not null,
	endpoint text not null,
	stream boolean not null,
	status integer not null,	-- what the caller got; 499 when it left
	error_code text,
	model_requested text not null,	-- the caller's string
	model_matched text,		-- the name of the model that matched
	model_served text,		-- what the provider called it
	provider_id uuid,
	provider text,
	client_request_id text,
	end_user text,
	remote_addr text,
	user_agent text,
	input_tokens bigint not null,	-- billed; includes cached and cache_write
	cached_tokens bigint not null,
	cache_write_tokens bigint not null,
	output_tokens bigint not null,	-- billed; includes reasoning
	reasoning_tokens bigint not null,
	counted_deltas bigint,		-- our own figures, when the provider's were missing
	estimated_input_tokens bigint,
	estimated_output_tokens bigint,
	settled_by smallint not null,	-- 0 none, 1 provider_usage, 2 counted, 3 estimated
	price_id uuid,
	price_version bigint,
	cost_nusd bigint,		-- null: no price was known
	cost_lines json,		-- [[what, quantity, nano-dollars per million, nano-dollars], ...]
	duration_us bigint not null,
	first_token_us bigint,
	read_us bigint,
	auth_us bigint,
	decode_us bigint,
	route_us bigint,
	upstream_us bigint,
	settle_us bigint,
	route json,
	primary key (organization_id, day, id)
) partition by range (day);
-- Who is not an administrator sees only what is theirs, however little that is among the rest.
create index requests_user on headgate.requests (organization_id, user_id, day, id) where user_id is not null;

create table headgate.attempts (
	organization_id uuid not null,
	day date not null,		-- the request's
	request_id uuid not null,
	number smallint not null,	-- from 1
	id uuid not null,
	provider_id uuid,
	provider text,
	provider_key_id uuid,
	model text,			-- as asked of the provider
	status integer not null,	-- 0: the provider gave none
	error_code text,
	started_at timestamptz not null,
	duration_us bigint not null,
	connect_us bigint,
	first_byte_us bigint,
	input_tokens bigint not null,
	cached_tokens bigint not null,
	cache_write_tokens bigint not null,
	output_tokens bigint not null,
	reasoning_tokens bigint not null,
	cost_nusd bigint,
	settled_by smallint not null,
	complete boolean not null,
	primary key (organization_id, day, request_id, number)
) partition by range (day);

-- Rows of a day without a partition are kept here until ledger_make_partitions moves them out.
create table headgate.requests_default partition of headgate.requests default;
create table headgate.attempts_default partition of headgate.attempts default;

-- Sums per quarter of an hour: every offset of a time zone is a multiple of it, so any local day or hour is a sum of buckets.
-- Zero uuids and empty text stand for "none". `shard` keeps committers out of each other's rows; readers sum over it.
-- Two things that may be unbounded are not dimensions: the caller's model string, and end_user (see ledger/usage.c).
create table headgate.usage_rollups (
	organization_id uuid not null,
	bucket timestamptz not null,
	project_id uuid not null,
	user_id uuid not null,
	key_id uuid not null,
	provider_id uuid not null,
	provider text not null,
	model text not null,		-- model_matched
	shard smallint not null,
	requests bigint not null,
	errors bigint not null,
	unpriced bigint not null,
	input_tokens bigint not null,
	cached_tokens bigint not null,
	cache_write_tokens bigint not null,
	output_tokens bigint not null,
	reasoning_tokens bigint not null,
	cost_nusd bigint not null,
	saved_nusd bigint not null,
	primary key (organization_id, bucket, key_id, project_id, user_id, provider_id, provider, model, shard)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

create table headgate.prices (
	id uuid primary key,
	provider_id uuid not null,
	model text not null check (model <> '' and length(model) <= 256 and position('*' in model) in (0, length(model))),
	version bigint not null check (version > 0),
	effective_from timestamptz not null,
	input_nusd bigint not null check (input_nusd >= 0),
	cached_input_nusd bigint check (cached_input_nusd >= 0),	-- null: as input
	cache_write_nusd bigint check (cache_write_nusd >= 0),		-- null: as input
	output_nusd bigint not null check (output_nusd >= 0),
	reasoning_nusd bigint check (reasoning_nusd >= 0),		-- null: as output
	created_at timestamptz not null default now(),
	unique (provider_id, model, version)
);

-- What the committer sends, one element per row. A later layout gets types of its own, so that programs of both ages can write.
create type headgate.request_in as (
	organization_id uuid, day integer, id uuid, project_id uuid, user_id uuid, key_id uuid, created_ms bigint,
	dialect text, endpoint text, stream boolean, status integer, error_code text,
	model_requested text, model_matched text, model_served text, provider_id uuid, provider text,
	client_request_id text, end_user text, remote_addr text, user_agent text,
	input_tokens bigint, cached_tokens bigint, cache_write_tokens bigint, output_tokens bigint, reasoning_tokens bigint,
	counted_deltas bigint, estimated_input_tokens bigint, estimated_output_tokens bigint,
	settled_by smallint, price_id uuid, price_version bigint, cost_nusd bigint, cost_lines json,
	duration_us bigint, first_token_us bigint, read_us bigint, auth_us bigint, decode_us bigint, route_us bigint,
	upstream_us bigint, settle_us bigint, route json
);
create type headgate.attempt_in as (
	request_id uuid, number smallint, id uuid, provider_id uuid, provider text, provider_key_id uuid, model text,
	status integer, error_code text, started_us bigint, duration_us bigint, connect_us bigint, first_byte_us bigint,
	input_tokens bigint, cached_tokens bigint, cache_write_tokens bigint, output_tokens bigint, reasoning_tokens bigint,
	cost_nusd bigint, settled_by smallint, complete boolean
);

-- One day of one table: a table of its own is made and attached, which lets readers and writers of the parent go on (CREATE
-- TABLE ... PARTITION OF would lock it whole). Only the default partition is locked, and what it holds of that day moves out.
create function headgate.ledger_make_partition(parent text, day date) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
	part text := parent || '_' || to_char(day, 'YYYYMMDD');
begin
	execute format('create table headgate.%I (like headgate.%I including all)', part, parent);
	execute format('with moved as (delete from headgate.%I where day = %L returning *) insert into headgate.%I select * from moved',
		parent || '_default', day, part);
	execute format('alter table headgate.%I attach partition headgate.%I for values from (%L) to (%L)', parent, part, day, day + 1);
end $$;

-- Make the partitions from yesterday to `days` ahead, in UTC. Returns how many were made. Any number of callers at once.
create function headgate.ledger_make_partitions(days integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '1s' as $$
declare
	today date := (now() at time zone 'UTC')::date;
	made integer := 0;
	one record;
	missing constant text := $q$
		select p.parent, d::date as day
		from generate_series($1 - 1, $1 + least(greatest($2, 0), 100), interval '1 day') d,
			(values (1, 'requests'), (2, 'attempts')) p(n, parent)
		where to_regclass(format('headgate.%I', p.parent || '_' || to_char(d, 'YYYYMMDD'))) is null
		order by d, n $q$;
begin
	execute 'select exists (' || missing || ')' into one using today, days;
	if not one.exists then
		return 0;
	end if;
	perform pg_advisory_xact_lock(hashtext('headgate.ledger_make_partitions'));
	lock table headgate.requests_default, headgate.attempts_default in access exclusive mode;
	for one in execute missing using today, days loop
		perform headgate.ledger_make_partition(one.parent, one.day);
		made := made + 1;
	end loop;
	return made;
end $$;
revoke all on function headgate.ledger_make_partition(text, date), headgate.ledger_make_partitions(integer) from public;
grant execute on function headgate.ledger_make_partitions(integer) to headgate_committer, headgate_worker;

-- Rights. headgate_api reads its own organization. headgate_committer adds rows, reads back only what feeds the sums, and
-- changes nothing but the sums. History is never updated.
alter table headgate.requests enable row level security;
alter table headgate.attempts enable row level security;
alter table headgate.usage_rollups enable row level security;

create policy api on headgate.requests for select to headgate_api
	using (organization_id = (select nullif(current_setting('headgate.organization', true), '')::uuid));
create policy api on headgate.attempts for select to headgate_api
	using (organization_id = (select nullif(current_setting('headgate.organization', true), '')::uuid));
create policy api on headgate.usage_rollups for select to headgate_api
	using (organization_id = (select nullif(current_setting('headgate.organization', true), '')::uuid));
create policy committer on headgate.requests to headgate_committer using (true) with check (true);
create policy committer on headgate.attempts to headgate_committer using (true) with check (true);
create policy committer on headgate.usage_rollups to headgate_committer using (true) with check (true);
create policy worker on headgate.requests for select to headgate_worker using (true);
create policy worker on headgate.attempts for select to headgate_worker using (true);
create policy worker on headgate.usage_rollups for select to headgate_worker using (true);
create policy auditor on headgate.requests for select to headgate_auditor using (true);
create policy auditor on headgate.attempts for select to headgate_auditor using (true);
create policy auditor on headgate.usage_rollups for select to headgate_auditor using (true);

grant select on headgate.requests, headgate.attempts, headgate.usage_rollups to headgate_api, headgate_worker, headgate_auditor;
grant insert on headgate.requests, headgate.attempts to headgate_committer;
grant select (organization_id, day, id, created_at, project_id, user_id, key_id, provider_id, provider, model_matched, error_code,
	input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_nusd)
	on headgate.requests to headgate_committer;
grant insert, select on headgate.usage_rollups to headgate_committer;
grant update (requests, errors, unpriced, input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens,
	cost_nusd, saved_nusd) on headgate.usage_rollups to headgate_committer;
grant select, insert on headgate.prices to headgate_api;
grant select on headgate.prices to headgate_loader, headgate_worker, headgate_auditor;

select headgate.ledger_make_partitions(8);
