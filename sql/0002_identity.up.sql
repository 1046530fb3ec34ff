-- SPDX-License-Identifier: Apache-2.0
-- Who is calling: organizations, their projects, users and API keys.
-- Keys are stored as HMAC-SHA256 under a pepper of the key ring, passwords as argon2id over a peppered HMAC; the id of the ring's
-- key stands beside each. organization_id leads the primary key of everything an organization owns, and row-level security keeps
-- headgate_api inside the organization of its transaction. headgate_loader reads across organizations what authentication needs.

create table headgate.organizations (
	id uuid primary key,
	name text not null check (name <> '' and length(name) <= 200),
	disabled_at timestamptz,
	created_at timestamptz not null default now()
);
create unique index organizations_name on headgate.organizations (lower(name));

create table headgate.users (
	id uuid primary key,
	email text not null check (email like '_%@_%' and length(email) <= 254),
	full_name text,
	password_phc text,	-- null: no password is set
	pepper_id text,
	platform_admin boolean not null default false,
	disabled_at timestamptz,
	created_at timestamptz not null default now(),
	check ((password_phc is null) = (pepper_id is null))
);
create unique index users_email on headgate.users (lower(email));

create table headgate.members (
	organization_id uuid not null references headgate.organizations,
	user_id uuid not null references headgate.users,
	role text not null check (role in ('owner', 'admin', 'member', 'viewer')),
	created_at timestamptz not null default now(),
	primary key (organization_id, user_id)
);
create index members_user on headgate.members (user_id);

create table headgate.projects (
	organization_id uuid not null references headgate.organizations,
	id uuid not null,
	name text not null check (name <> '' and length(name) <= 200),
	is_default boolean not null default false,
	created_at timestamptz not null default now(),
	primary key (organization_id, id)
);
create unique index projects_name on headgate.projects (organization_id, lower(name));
create unique index projects_default on headgate.projects (organization_id) where is_default;

create table headgate.api_keys (
	organization_id uuid not null references headgate.organizations,
	id uuid not null,
	project_id uuid not null,
	user_id uuid references headgate.users,
	name text not null check (name <> '' and length(name) <= 200),
	digest bytea not null check (length(digest) = 32),
	pepper_id text not null,
	prefix text not null,
	last4 text not null,
	scopes text[] not null check (scopes <@ array['read', 'write', 'admin']),
	models text[] not null default '{}',	-- globs; empty: every model
	expires_at timestamptz,
	revoked_at timestamptz,
	last_used_at timestamptz,
	created_at timestamptz not null default now(),
	primary key (organization_id, id),
	foreign key (organization_id, project_id) references headgate.projects (organization_id, id)
);
create unique index api_keys_digest on headgate.api_keys (digest);
create index api_keys_id on headgate.api_keys (id);

alter table headgate.members enable row level security;
alter table headgate.projects enable row level security;
alter table headgate.api_keys enable row level security;

create policy members_api on headgate.members to headgate_api
	using (organization_id = headgate.current_organization());
create policy projects_api on headgate.projects to headgate_api
	using (organization_id = headgate.current_organization());
create policy api_keys_api on headgate.api_keys to headgate_api
	using (organization_id = headgate.current_organization());

create policy members_loader on headgate.members for select to headgate_loader using (true);
create policy projects_loader on headgate.projects for select to headgate_loader using (true);
create policy api_keys_loader on headgate.api_keys for select to headgate_loader using (true);
create policy members_auditor on headgate.members for select to headgate_auditor using (true);
create policy projects_auditor on headgate.projects for select to headgate_auditor using (true);
create policy api_keys_auditor on headgate.api_keys for select to headgate_auditor using (true);
create policy api_keys_used on headgate.api_keys for update to headgate_loader using (true);

-- Nobody deletes an organization, a user or a key: history refers to them.
grant select, insert, update on headgate.organizations, headgate.users, headgate.projects, headgate.api_keys to headgate_api;
grant select, insert, update, delete on headgate.members to headgate_api;
grant select on headgate.organizations, headgate.users, headgate.members, headgate.projects, headgate.api_keys to headgate_loader;
grant update (last_used_at) on headgate.api_keys to headgate_loader;
-- The auditor sees who may do what, not what proves it.
grant select on headgate.organizations, headgate.members, headgate.projects to headgate_auditor;
grant select (id, email, full_name, platform_admin, disabled_at, created_at) on headgate.users to headgate_auditor;
grant select (organization_id, id, project_id, user_id, name, prefix, last4, scopes, models, expires_at, revoked_at, last_used_at, created_at)
	on headgate.api_keys to headgate_auditor;
