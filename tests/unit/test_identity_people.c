/* SPDX-License-Identifier: Apache-2.0
 * Users and their passwords over PostgreSQL, and authentication by key as the application does it.
 */
#include "config.h"
#include "store_fixture.h"

#include "base/clock.h"
#include "identity/identity.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <sys/stat.h>
#include <unistd.h>

static struct pg_pool *pool;
static struct keyring *keyring;
static struct identity *identity;
static struct arena *a;
static struct err err;
static struct uuid acme;
static char dir[] = "/tmp/hgidXXXXXX";
static char key_path[64];

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

static void open_identity(void)
{
	const struct identity_options options = { .pool = pool, .keyring = keyring, .cache_keys = 1000 };
	identity = identity_new(&options, &err);
	assert_non_null(identity);
}

static int start(void **state)
{
	(void)state;
	char name[UUID_TEXT + 1];
	bool created;
	a = arena_new(1 << 26);
	assert_ok(migrate_up(fixture_url(), fixture_sql_dir(), 0, NULL, NULL, &err));
	pool = fixture_pool(6, 5000);
	assert_non_null(mkdtemp(dir));
	snprintf(key_path, sizeof key_path, "%s/master.key", dir);
	assert_ok(keyring_create(key_path, &err));
	assert_ok(keyring_load(key_path, &keyring, &err));
	open_identity();
	uuid_text(uuid_v7(), name); /* of our own, whatever is there */
	assert_ok(identity_organization_put(identity, str_c(name), &acme, &created, &err));
	assert_true(created);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	char command[64];
	identity_free(&identity);
	keyring_free(&keyring);
	pg_pool_free(&pool);
	arena_free(&a);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command);
}

static struct str address(const char *who)
{
	char id[UUID_TEXT + 1];
	uuid_text(acme, id);
	return arena_printf(a, "%s@%s.example", who, id);
}

static struct uuid make_user(const char *who, const char *password)
{
	struct uuid id;
	bool created;
	assert_ok(identity_user_put(identity, acme, address(who), str_c(password), false, STR("member"), &id, &created, &err));
	return id;
}

static int check(const char *who, const char *password)
{
	struct uuid id;
	int right = identity_password_check(identity, address(who), str_c(password), &id, &err);
	assert_ok(right);
	return right;
}

static void only_the_right_password_of_an_enabled_user_is_right(void **state)
{
	(void)state;
	struct uuid made = make_user("ann", "correct horse"), found;
	make_user("bob", "");
	assert_int_equal(identity_password_check(identity, address("ANN"), STR("correct horse"), &found, &err), 1);
	assert_memory_equal(&made, &found, sizeof made);
	assert_int_equal(check("ann", "correct horse "), 0);
	assert_int_equal(check("ann", ""), 0);
	assert_int_equal(check("bob", ""), 0);
	assert_int_equal(check("bob", "headgate"), 0);
	assert_int_equal(check("nobody", "correct horse"), 0);
	owner(arena_printf(a, "update headgate.users set disabled_at = now() where email = '" STR_FMT "'", STR_ARG(address("ann"))).p);
	assert_int_equal(check("ann", "correct horse"), 0);
}

static int by_value(const void *l, const void *r)
{
	uint64_t x = *(const uint64_t *)l, y = *(const uint64_t *)r;
	return x < y ? -1 : x > y;
}

/* The processor's time of this thread: how busy the machine is does not come into it. */
static uint64_t worked_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static uint64_t median_us(const char *who)
{
	enum { SAMPLES = 9 };
	uint64_t took[SAMPLES];
	for (int i = 0; i < SAMPLES; i++) {
		uint64_t begun = worked_us();
		assert_int_equal(check(who, "wrong password"), 0);
		took[i] = worked_us() - begun;
	}
	qsort(took, SAMPLES, sizeof took[0], by_value);
	return took[SAMPLES / 2];
}

/* A coarse look: no early return. The statistics of P-51 need a quiet machine. */
static void unknown_and_wrong_take_the_same_work(void **state)
{
	(void)state;
	make_user("eve", "correct horse");
	make_user("joe", "");
	uint64_t wrong = median_us("eve"), unknown = median_us("no-such-user"), without = median_us("joe");
	assert_in_range(unknown, wrong / 3, wrong * 3);
	assert_in_range(without, wrong / 3, wrong * 3);
}

static struct identity_key make_key(struct identity_key_new in, struct str *secret_r)
{
	struct identity_key key;
	in.organization = acme;
	in.name = STR("test");
	in.scopes = in.scopes ? in.scopes : SCOPE_READ | SCOPE_WRITE;
	assert_ok(identity_key_create(identity, &in, a, &key, secret_r, &err));
	return key;
}

static void a_key_tells_who_calls(void **state)
{
	(void)state;
	static const struct str models[] = { { "gpt-*", 5 }, { "odd\"name,{}\\", 12 } };
	struct uuid user = make_user("kim", "");
	struct str secret;
	struct caller who;
	struct identity_key key = make_key((struct identity_key_new){ .user = user, .scopes = SCOPE_READ, .models = models, .nmodels = 2 }, &secret);
	for (int i = 0; i < 2; i++) { /* from PostgreSQL, then from the cache */
		assert_ok(identity_authenticate(identity, secret, a, &who, &err));
		assert_memory_equal(&who.key, &key.id, sizeof key.id);
		assert_memory_equal(&who.organization, &acme, sizeof acme);
		assert_memory_equal(&who.project, &key.project, sizeof key.project);
		assert_memory_equal(&who.user, &user, sizeof user);
		assert_true(who.scopes == SCOPE_READ && !who.platform_admin && str_eq_c(who.key_name, "test"));
		assert_true(caller_may_call(&who, STR("gpt-4o")) && caller_may_call(&who, models[1]) && !caller_may_call(&who, STR("claude")));
	}
}

static void a_platform_administrator_is_one_only_with_an_admin_key(void **state)
{
	(void)state;
	struct uuid user;
	bool created;
	struct str secret;
	struct caller who;
	assert_ok(identity_user_put(identity, acme, address("root"), STR_NONE, true, STR("owner"), &user, &created, &err));
	make_key((struct identity_key_new){ .user = user }, &secret);
	assert_ok(identity_authenticate(identity, secret, a, &who, &err));
	assert_false(who.platform_admin);
	make_key((struct identity_key_new){ .user = user, .scopes = SCOPE_READ | SCOPE_WRITE | SCOPE_ADMIN }, &secret);
	assert_ok(identity_authenticate(identity, secret, a, &who, &err));
	assert_true(who.platform_admin);
}

static void every_refusal_but_a_typing_error_says_the_same(void **state)
{
	(void)state;
	struct str revoked, mistyped;
	struct caller who;
	struct identity_key key = make_key((struct identity_key_new){ .user = { { 0 } } }, &revoked);
	assert_ok(identity_key_revoke(identity, key.id, &err));
	make_key((struct identity_key_new){ .user = { { 0 } } }, &mistyped);
	mistyped = arena_printf(a, "hg_%c" STR_FMT, mistyped.p[3] == 'x' ? 'y' : 'x', STR_ARG(str_sub(mistyped, 4, mistyped.n)));
	const struct str same[] = { revoked, STR("sk-this-is-no-key-here"), STR("short"), STR(""), STR("has a space inside it"), STR("has,a,comma,inside,it") };
	for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
		assert_int_equal(identity_authenticate(identity, same[i], a, &who, &err), -1);
		assert_int_equal(err.code, ERR_UNAUTHENTICATED);
		assert_string_equal(err.msg, "Invalid API key");
	}
	assert_int_equal(identity_authenticate(identity, mistyped, a, &who, &err), -1);
	assert_int_equal(err.code, ERR_UNAUTHENTICATED);
	assert_string_equal(err.msg, "API key is mistyped (its checksum does not match)");
}

static void keys_made_under_an_older_master_key_stay_good(void **state)
{
	(void)state;
	char line[256];
	struct str secret, newer;
	struct caller who;
	make_key((struct identity_key_new){ .user = { { 0 } } }, &secret);
	make_user("old", "correct horse");
	FILE *f = fopen(key_path, "r");
	assert_non_null(fgets(line, sizeof line, f));
	fclose(f);
	unlink(key_path);
	f = fopen(key_path, "w");
	fprintf(f, "brandnew:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n%s", line);
	fclose(f);
	chmod(key_path, 0400);
	identity_free(&identity);
	keyring_free(&keyring);
	assert_ok(keyring_load(key_path, &keyring, &err));
	open_identity();
	assert_ok(identity_authenticate(identity, secret, a, &who, &err));
	assert_int_equal(check("old", "correct horse"), 1);
	make_key((struct identity_key_new){ .user = { { 0 } } }, &newer);
	assert_ok(identity_authenticate(identity, newer, a, &who, &err));
	struct identity_key found, made;
	assert_int_equal(identity_key_find(identity, secret, a, &found, &err), 1);
	const struct identity_key_new again = { .organization = acme, .name = STR("again"), .scopes = SCOPE_READ, .adopt = secret };
	assert_int_equal(identity_key_create(identity, &again, a, &made, &newer, &err), -1);
	assert_int_equal(err.code, ERR_CONFLICT);
}

static void *flood(void *u)
{
	unsigned *busy = u;
	struct uuid id;
	struct err why;
	err_clear(&why);
	if (identity_password_check(identity, STR("flood@nowhere.example"), STR("password"), &id, &why) < 0 && why.code == ERR_BUSY && why.retry_after_ms == 2000)
		*busy = 1;
	return NULL;
}

static void a_flood_of_log_ins_is_turned_away(void **state)
{
	(void)state;
	enum { CALLERS = 40 };
	pthread_t threads[CALLERS];
	unsigned busy[CALLERS] = { 0 }, refused = 0;
	uint64_t begun = clock_now_us();
	for (int i = 0; i < CALLERS; i++)
		pthread_create(&threads[i], NULL, flood, &busy[i]);
	for (int i = 0; i < CALLERS; i++) {
		pthread_join(threads[i], NULL);
		refused += busy[i];
	}
	assert_in_range(refused, 1, CALLERS - 2);
	assert_in_range(clock_now_us() - begun, 0, 30000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_right_password_of_an_enabled_user_is_right),
		cmocka_unit_test(unknown_and_wrong_take_the_same_work),
		cmocka_unit_test(a_key_tells_who_calls),
		cmocka_unit_test(a_platform_administrator_is_one_only_with_an_admin_key),
		cmocka_unit_test(every_refusal_but_a_typing_error_says_the_same),
		cmocka_unit_test(keys_made_under_an_older_master_key_stay_good),
		cmocka_unit_test(a_flood_of_log_ins_is_turned_away),
	};
	if (!fixture_url())
		return fixture_skip();
	return cmocka_run_group_tests(tests, start, stop);
}
