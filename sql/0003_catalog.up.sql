-- SPDX-License-Identifier: Apache-2.0
-- The catalog: which providers there are, their sealed keys, and which model names go where. It belongs to the platform, not to
-- an organization. Only headgate_loader reads a secret, and what it reads is sealed under the master key.

create table headgate.providers (
	id uuid primary key,
	name text not null check (name <> '' and length(name) <= 100),
	kind text not null,
	base_url text not null check (length(base_url) <= 2048),
	allow_http boolean not null default false,
	allow_private boolean not null default false,
	enabled boolean not null default true,
	first_byte_ms bigint not null default 0 check (first_byte_ms >= 0),	-- 0: as the configuration says
	idle_ms bigint not null default 0 check (idle_ms >= 0),
	total_ms bigint not null default 0 check (total_ms >= 0),
	created_at timestamptz not null default now()
);
create unique index providers_name on headgate.providers (name);

create table headgate.provider_keys (
	provider_id uuid not null references headgate.providers on delete cascade,
	id uuid not null,
	secret bytea not null,
	seal_id text not null,
	last4 text not null,
	position integer not null,	-- the first enabled one is used
	enabled boolean not null default true,
	created_at timestamptz not null default now(),
	primary key (provider_id, id)
);

create table headgate.models (
	id uuid primary key,
	name text not null check (name <> '' and length(name) <= 256 and position('*' in name) in (0, length(name))),
	enabled boolean not null default true,
	created_at timestamptz not null default now()
);
create unique index models_name on headgate.models (name);

create table headgate.model_targets (
	model_id uuid not null references headgate.models on delete cascade,
	position integer not null,
	provider_id uuid not null references headgate.providers,
	model text not null default '' check (length(model) <= 256),	-- '': the name the caller used
	priority bigint not null default 0,
	weight bigint not null default 1 check (weight >= 0),
	primary key (model_id, position)
);
create index model_targets_provider on headgate.model_targets (provider_id);

grant select, insert, update, delete on headgate.providers, headgate.models, headgate.model_targets to headgate_api;
grant select (provider_id, id, seal_id, last4, position, enabled, created_at), insert, update, delete on headgate.provider_keys to headgate_api;
grant select on headgate.providers, headgate.provider_keys, headgate.models, headgate.model_targets to headgate_loader;
grant select on headgate.providers, headgate.models, headgate.model_targets to headgate_auditor;
grant select (provider_id, id, seal_id, last4, position, enabled, created_at) on headgate.provider_keys to headgate_auditor;
