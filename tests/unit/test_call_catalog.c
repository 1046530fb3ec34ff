/* SPDX-License-Identifier: Apache-2.0
 * The catalog over PostgreSQL: what is loaded, when it is loaded again, and what outlives a snapshot.
 */
#include "config.h"
#include "store_fixture.h"

#include "call/catalog.h"
#include "http/http.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static struct pg_pool *pool;
static struct keyring *keyring;
static struct segment *segment;
static struct epoch *epoch;
static struct catalog *catalog;
static struct arena *a;
static struct err err;
static char dir[] = "/tmp/hgcatXXXXXX";

#define assert_ok(call)                                                                                                       \
	do {                                                                                                                  \
		if ((call) < 0)                                                                                               \
			fail_msg("%s: %s (%s)", #call, err.msg, err.detail);                                                  \
	} while (0)

static void owner(const char *sql)
{
	const struct pg_scope scope = { .role = PG_ROLE_OWNER };
	struct pg_result *r;
	assert_ok(pg_query(pool, &scope, sql, NULL, 0, a, &r, &err));
}

static int start(void **state)
{
	(void)state;
	char path[64];
	a = arena_new(1 << 26);
	assert_ok(migrate_up(fixture_url(), fixture_sql_dir(), 0, NULL, NULL, &err));
	pool = fixture_pool(6, 5000);
	owner("delete from headgate.models");
	owner("delete from headgate.providers");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/master.key", dir);
	assert_ok(keyring_create(path, &err));
	assert_ok(keyring_load(path, &keyring, &err));
	assert_ok(segment_open(dir, SEGMENT_FCGI, &segment, &err));
	epoch = epoch_new(pool, segment, 0);
	assert_ok(http_init("", &err));
	const struct catalog_options options = { .pool = pool, .epoch = epoch, .keyring = keyring, .idle_connections = 4, .connect_ms = 1000, .header_bytes = 65536 };
	catalog = catalog_new(&options, &err);
	assert_non_null(catalog);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	char command[64];
	catalog_free(&catalog);
	http_cleanup();
	epoch_free(&epoch);
	segment_close(&segment);
	keyring_free(&keyring);
	pg_pool_free(&pool);
	arena_free(&a);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command);
}

static struct provider_put provider(const char *name, const char *url)
{
	static const struct str keys[] = { { "secret-one-0001", 15 }, { "secret-two-0002", 15 } };
	return (struct provider_put){ .name = str_c(name), .kind = STR("openai"), .base_url = str_c(url), .enabled = true, .api_keys = keys, .napi_keys = 2 };
}

static const char *put_provider(struct provider_put in)
{
	struct uuid id;
	const char *change;
	assert_ok(catalog_provider_put(catalog, &in, a, &id, &change, &err));
	return change;
}

static const char *put_model(const char *name, const char *to)
{
	const struct target_put target = { str_c(to), STR(""), 0, 1 };
	const struct model_put in = { .name = str_c(name), .enabled = true, .targets = &target, .ntargets = 1 };
	struct uuid id;
	const char *change;
	assert_ok(catalog_model_put(catalog, &in, a, &id, &change, &err));
	return change;
}

static struct catalog_snapshot *get(void)
{
	struct catalog_snapshot *s;
	assert_ok(catalog_get(catalog, &s, &err));
	return s;
}

static const struct provider *find(const struct catalog_snapshot *s, const char *name)
{
	unsigned n;
	const struct provider *all = catalog_providers(s, &n);
	for (unsigned i = 0; i < n; i++)
		if (str_eq_c(all[i].name, name))
			return &all[i];
	return NULL;
}

static void what_was_put_is_loaded_with_its_first_key(void **state)
{
	(void)state;
	assert_string_equal(put_provider(provider("one", "https://one.example.com/v1/")), "created");
	assert_string_equal(put_model("one-*", "one"), "created");
	struct catalog_snapshot *s = get();
	const struct provider *p = find(s, "one");
	assert_non_null(p);
	assert_true(p->enabled && p->http && str_eq_c(p->base_url, "https://one.example.com/v1"));
	assert_true(str_eq_c(p->key_secret, "secret-one-0001") && str_eq_c(p->key_last4, "0001"));
	const struct model *m = catalog_match(s, STR("one-x"));
	assert_true(m && m->ntargets == 1 && m->targets[0].provider == p);
	catalog_put(&s);
}

static void nothing_is_loaded_again_without_a_change(void **state)
{
	(void)state;
	struct catalog_snapshot *first = get(), *second = get();
	assert_ptr_equal(first, second);
	assert_string_equal(put_provider(provider("one", "https://one.example.com/v1")), "unchanged");
	struct catalog_snapshot *third = get();
	assert_ptr_equal(first, third);
	catalog_put(&first);
	catalog_put(&second);
	catalog_put(&third);
}

static void connections_outlive_a_change_of_something_else(void **state)
{
	(void)state;
	struct catalog_snapshot *before = get();
	struct provider_put in = provider("one", "https://one.example.com/v1");
	in.idle_ms = 77;
	assert_string_equal(put_provider(in), "changed");
	struct catalog_snapshot *after = get();
	assert_ptr_not_equal(before, after);
	assert_ptr_equal(find(before, "one")->http, find(after, "one")->http);
	assert_int_equal(find(after, "one")->idle_ms, 77);
	catalog_put(&before);
	catalog_put(&after);
	struct catalog_snapshot *old = get();
	put_provider(provider("one", "https://other.example.com/v1"));
	struct catalog_snapshot *moved = get();
	assert_ptr_not_equal(find(old, "one")->http, find(moved, "one")->http);
	catalog_put(&old);
	catalog_put(&moved);
}

static void a_snapshot_that_is_held_stays_whole(void **state)
{
	(void)state;
	put_provider(provider("gone", "https://gone.example.com"));
	put_model("gone", "gone");
	struct catalog_snapshot *held = get();
	assert_ok(catalog_model_remove(catalog, STR("gone"), &err));
	assert_ok(catalog_provider_remove(catalog, STR("gone"), &err));
	struct catalog_snapshot *now = get();
	assert_null(find(now, "gone"));
	assert_null(catalog_match(now, STR("gone")));
	assert_true(str_eq_c(catalog_match(held, STR("gone"))->targets[0].provider->key_secret, "secret-one-0001"));
	catalog_put(&now);
	catalog_put(&held);
}

static void what_cannot_be_used_is_there_and_not_enabled(void **state)
{
	(void)state;
	put_provider(provider("sealed", "https://sealed.example.com"));
	put_provider(provider("strange", "https://strange.example.com"));
	owner("update headgate.provider_keys set secret = set_byte(secret, 20, get_byte(secret, 20) # 1) where provider_id = (select id from headgate.providers where name = 'sealed')");
	owner("update headgate.providers set kind = 'oracle' where name = 'strange'");
	owner("select headgate.change('provider', null)");
	epoch_publish(epoch, epoch_now(epoch) + 1);
	struct catalog_snapshot *s = get();
	const struct provider *sealed = find(s, "sealed"), *strange = find(s, "strange");
	assert_false(sealed->enabled);
	assert_true(strstr(sealed->problem, "unsealed") != NULL && !sealed->http && !sealed->key_secret.n);
	assert_false(strange->enabled);
	assert_true(find(s, "one")->enabled);
	catalog_put(&s);
}

static void a_change_made_elsewhere_is_heard_through_the_epoch(void **state)
{
	(void)state;
	struct catalog_snapshot *s = get();
	assert_null(catalog_match(s, STR("elsewhere")));
	catalog_put(&s);
	owner("with m as (insert into headgate.models (id, name) values (gen_random_uuid(), 'elsewhere') returning id)"
	      " select headgate.change('model', id) from m");
	for (int i = 0; i < 20; i++) {
		assert_ok(epoch_check(epoch, &err));
		s = get();
		const struct model *m = catalog_match(s, STR("elsewhere"));
		catalog_put(&s);
		if (m)
			return;
		usleep(100000);
	}
	fail_msg("the change was not heard within two seconds");
}

struct race { _Atomic bool stop; _Atomic unsigned seen; };

static void *look(void *u)
{
	struct race *r = u;
	while (!atomic_load(&r->stop)) {
		struct catalog_snapshot *s;
		struct err why;
		if (catalog_get(catalog, &s, &why) < 0)
			continue;
		const struct model *m = catalog_match(s, STR("one-x"));
		if (m && m->ntargets && m->targets[0].provider->http)
			atomic_fetch_add(&r->seen, 1);
		catalog_put(&s);
	}
	return NULL;
}

static void threads_take_and_give_back_while_it_changes(void **state)
{
	(void)state;
	struct race r = { .stop = false };
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, look, &r);
	for (int i = 0; i < 40; i++)
		put_provider(provider("one", i % 2 ? "https://a.example.com" : "https://b.example.com"));
	atomic_store(&r.stop, true);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_true(atomic_load(&r.seen) > 0);
}

static void a_wrong_name_address_or_target_is_refused(void **state)
{
	(void)state;
	static const struct { const char *name, *url, *param; } cases[] = {
		{ "", "https://x.example.com", "name" }, { "a b", "https://x.example.com", "name" }, { "x", "", "base_url" }, { "x", "ftp://x.example.com", "base_url" },
		{ "x", "http://x.example.com", "base_url" }, { "x", "not a url", "base_url" },
	};
	struct uuid id;
	const char *change;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct provider_put in = provider(cases[i].name, cases[i].url);
		assert_int_equal(catalog_provider_put(catalog, &in, a, &id, &change, &err), -1);
		assert_int_equal(err.code, ERR_INVALID);
		assert_string_equal(err.param, cases[i].param);
	}
	const struct target_put nowhere = { STR("nowhere"), STR(""), 0, 1 };
	const struct model_put model = { .name = STR("x"), .enabled = true, .targets = &nowhere, .ntargets = 1 };
	assert_int_equal(catalog_model_put(catalog, &model, a, &id, &change, &err), -1);
	assert_string_equal(err.param, "targets[0].provider");
	assert_int_equal(catalog_provider_remove(catalog, STR("nowhere"), &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	assert_int_equal(catalog_provider_remove(catalog, STR("one"), &err), -1);
	assert_int_equal(err.code, ERR_CONFLICT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_put_is_loaded_with_its_first_key),
		cmocka_unit_test(nothing_is_loaded_again_without_a_change),
		cmocka_unit_test(connections_outlive_a_change_of_something_else),
		cmocka_unit_test(a_snapshot_that_is_held_stays_whole),
		cmocka_unit_test(what_cannot_be_used_is_there_and_not_enabled),
		cmocka_unit_test(a_change_made_elsewhere_is_heard_through_the_epoch),
		cmocka_unit_test(threads_take_and_give_back_while_it_changes),
		cmocka_unit_test(a_wrong_name_address_or_target_is_refused),
	};
	if (!fixture_url())
		return fixture_skip();
	return cmocka_run_group_tests(tests, start, stop);
}
