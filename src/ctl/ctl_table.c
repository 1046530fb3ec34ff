/* SPDX-License-Identifier: Apache-2.0
 * The table of nouns and verbs. Everything about the command line is read from here.
 */
#include "config.h"
#include "ctl/ctl_room.h"

#define END { NULL, NULL, NULL }

const struct ctl_option ctl_globals[] = {
	{ "config", "FILE", "the configuration file (else $HEADGATE_CONFIG, else the installed one)" },
	{ "json", NULL, "answer in JSON" },
	{ "quiet", NULL, "say only what was asked for: an id, a key, a name per line" },
	{ "help", NULL, "show help" },
	{ "version", NULL, "show the version" },
	END,
};

static const struct ctl_option in_organization[] = {
	{ "organization", "NAME", "only this organization's, by name or id" },
	END,
};
static const struct ctl_option db_migrate[] = {
	{ "to", "N", "stop after migration N" },
	END,
};
static const struct ctl_option db_rollback[] = {
	{ "to", "N", "undo every migration after N (0: all)" },
	END,
};
static const struct ctl_option user_create[] = {
	{ "organization", "NAME", "make the user a member of it" },
	{ "role", "ROLE", "owner, admin, member (the default) or viewer" },
	{ "platform-admin", NULL, "may administer the whole platform" },
	{ "password-stdin", NULL, "read the password from standard input" },
	{ "password-file", "FILE", "read the password from a file" },
	{ "no-password", NULL, "set no password" },
	END,
};
static const struct ctl_option key_create[] = {
	{ "organization", "NAME", "whose key it is, by name or id (the only one, when there is one)" },
	{ "name", "NAME", "what to call it" },
	{ "user", "EMAIL", "the person who uses it" },
	{ "scope", "SCOPE", "read, write (the default, includes read) or admin (includes both)" },
	{ "model", "GLOB", "allow this model only; may be repeated" },
	{ "expires", "WHEN", "90d, 12h, or an RFC 3339 time" },
	{ "adopt-stdin", NULL, "adopt the key on standard input instead of making one" },
	{ "adopt-file", "FILE", "adopt the key in a file" },
	END,
};
static const struct ctl_option key_list[] = {
	{ "organization", "NAME", "only this organization's, by name or id" },
	{ "all", NULL, "revoked and expired ones too" },
	END,
};
static const struct ctl_option provider_add[] = {
	{ "kind", "KIND", "openai (the default)" },
	{ "base-url", "URL", "its address, such as https://api.openai.com/v1" },
	{ "api-key-stdin", NULL, "read its key from standard input" },
	{ "api-key-file", "FILE", "read its key from a file; may be repeated, the first is used" },
	{ "allow-http", NULL, "allow an address without TLS" },
	{ "allow-private", NULL, "allow an address in a private network" },
	{ "disabled", NULL, "register it, but send it nothing" },
	{ "first-byte-timeout", "MS", "wait this long for the answer to begin" },
	{ "idle-timeout", "MS", "wait this long between two pieces of an answer" },
	{ "total-timeout", "MS", "wait this long for a whole answer" },
	END,
};
static const struct ctl_option model_add[] = {
	{ "target", "PROVIDER[=MODEL]", "where it goes, and the provider's name for it; may be repeated, in order of priority" },
	{ "disabled", NULL, "register it, but refuse it" },
	END,
};
static const struct ctl_option price_add[] = {
	{ "input", "USD", "dollars per million input tokens" },
	{ "output", "USD", "dollars per million output tokens" },
	{ "cached-input", "USD", "input read from the provider's cache (else as input)" },
	{ "cache-write", "USD", "input written to the provider's cache (else as input)" },
	{ "reasoning", "USD", "reasoning tokens (else as output)" },
	{ "effective-from", "TIME", "RFC 3339 (else now)" },
	END,
};
static const struct ctl_option price_list[] = {
	{ "provider", "NAME", "only this provider's" },
	END,
};
static const struct ctl_option price_import[] = {
	{ "provider", "NAME", "the provider here that these prices are for" },
	{ "from", "NAME", "the file's name for it (the default: the same)" },
	{ "dry-run", NULL, "tell what would change" },
	END,
};
static const struct ctl_option ledger_verify[] = {
	{ "from", "TIME", "only the quarters of an hour from this one on (RFC 3339)" },
	{ "to", "TIME", "only those up to this one" },
	END,
};
static const struct ctl_option apply[] = {
	{ "file", "FILE", "what is wanted, in JSON (-: standard input); -f FILE is the same" },
	{ "prune", NULL, "remove the providers and models that the file does not name" },
	{ "dry-run", NULL, "tell what would change" },
	END,
};

const struct ctl_command ctl_commands[] = {
	{ "config", "check", "", 0, 0, "read the configuration and report every error in it", "headgatectl --config ./headgate.conf config check",
	  ctl_config_check, NULL },
	{ "config", "show", "", 0, 0, "show every option with its value and where that comes from", "headgatectl config show --json", ctl_config_show, NULL },
	{ "config", "sample", "", 0, 0, "print a configuration file with every option at its default", "headgatectl config sample > headgate.conf",
	  ctl_config_sample, NULL },
	{ "db", "migrate", "", 0, 0, "bring the schema up to date, as the owner", "headgatectl db migrate", ctl_db_migrate, db_migrate },
	{ "db", "status", "", 0, 0, "list the migrations; 4 when the schema is not what this version needs", "headgatectl db status", ctl_db_status, NULL },
	{ "db", "rollback", "", 0, 0, "undo migrations, as the owner", "headgatectl db rollback --to 3", ctl_db_rollback, db_rollback },
	{ "secret", "create", "[FILE]", 0, 1, "make the master key file; an existing one is never touched", "headgatectl secret create /etc/headgate/master.key",
	  ctl_secret_create, NULL },
	{ "organization", "create", "NAME", 1, 1, "make an organization", "headgatectl organization create Acme", ctl_organization_create, NULL },
	{ "organization", "list", "", 0, 0, "list the organizations", "headgatectl organization list", ctl_organization_list, NULL },
	{ "user", "create", "EMAIL", 1, 1, "make a user, or a member of an organization of one who exists",
	  "headgatectl user create ann@example.org --organization Acme --role admin", ctl_user_create, user_create },
	{ "user", "list", "", 0, 0, "list the users", "headgatectl user list --organization Acme", ctl_user_list, in_organization },
	{ "key", "create", "", 0, 0, "make an API key and show it once", "headgatectl key create --organization Acme --name ci --model 'gpt-*' --expires 90d",
	  ctl_key_create, key_create },
	{ "key", "list", "", 0, 0, "list the API keys", "headgatectl key list --organization Acme", ctl_key_list, key_list },
	{ "key", "revoke", "ID...", 1, 64, "revoke API keys: they stop working everywhere within a second",
	  "headgatectl key revoke key_01938f5e-7c3a-7000-8000-000000000000", ctl_key_revoke, NULL },
	{ "provider", "add", "NAME", 1, 1, "register a provider, or change one",
	  "headgatectl provider add openai --base-url https://api.openai.com/v1 --api-key-file ./openai.key", ctl_provider_add, provider_add },
	{ "provider", "list", "", 0, 0, "list the providers", "headgatectl provider list", ctl_provider_list, NULL },
	{ "provider", "remove", "NAME", 1, 1, "remove a provider that serves no model", "headgatectl provider remove openai", ctl_provider_remove, NULL },
	{ "provider", "test", "NAME", 1, 1, "ask a provider for its models, with its key", "headgatectl provider test openai", ctl_provider_test, NULL },
	{ "model", "add", "NAME", 1, 1, "register a model, or change one; NAME may end in *",
	  "headgatectl model add 'gpt-*' --target openai --target azure=gpt-4o", ctl_model_add, model_add },
	{ "model", "list", "", 0, 0, "list the models", "headgatectl model list", ctl_model_list, NULL },
	{ "model", "remove", "NAME", 1, 1, "remove a model", "headgatectl model remove 'gpt-*'", ctl_model_remove, NULL },
	{ "price", "add", "PROVIDER MODEL", 2, 2, "set a price: a new version, never a change of an old one; MODEL may end in *",
	  "headgatectl price add openai 'gpt-4o*' --input 2.50 --cached-input 1.25 --output 10", ctl_price_add, price_add },
	{ "price", "list", "", 0, 0, "list the prices", "headgatectl price list --provider openai", ctl_price_list, price_list },
	{ "price", "import", "FILE", 1, 1, "take the token prices of a provider from LiteLLM's table",
	  "headgatectl price import litellm-model-prices.json --provider openai", ctl_price_import, price_import },
	{ "ledger", "status", "", 0, 0, "show what this host's processes, living and dead, have not in PostgreSQL yet", "headgatectl ledger status --json",
	  ctl_ledger_status, NULL },
	{ "ledger", "verify", "", 0, 0, "check that requests, attempts and sums agree to the nano-dollar; 1 when they do not",
	  "headgatectl ledger verify --from 2026-11-01T00:00:00Z", ctl_ledger_verify, ledger_verify },
	{ "apply", NULL, "", 0, 0, "make organizations, providers, models and prices be as a file says", "headgatectl apply -f gateway.json --dry-run", ctl_apply,
	  apply },
	{ "status", NULL, "", 0, 0, "show whether PostgreSQL, the schema, the processes of this host and memcached are well", "headgatectl status --json",
	  ctl_status, NULL },
	{ "reload", NULL, "", 0, 0, "let every process of this host read its configuration again", "headgatectl reload", ctl_reload, NULL },
	{ 0 },
};
