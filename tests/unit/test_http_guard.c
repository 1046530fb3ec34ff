/* SPDX-License-Identifier: Apache-2.0
 * The guard against forged requests (P-25): which addresses are the public internet's, and that no spelling of one that is not gets
 * a connection to a listener on this host.
 */
#include "config.h"
#include "http/pool.h"

#include "base/arena.h"
#include "http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#include <cmocka.h>

static bool is_public(const char *text)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
		return guard_is_public((struct sockaddr *)&in);
	assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
	return guard_is_public((struct sockaddr *)&in6);
}

static void public_addresses_pass(void **state)
{
	static const char *const list[] = {
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
		"168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255",
		"192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700::1111", "2001:4860:4860::8888", "2a00:1450::1",
		"2001:200::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "3ffe::1",
	};
	(void)state;
	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
		if (!is_public(list[i]))
			fail_msg("%s is refused", list[i]);
}

static void other_addresses_are_refused(void **state)
{
	static const char *const list[] = {
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.0", "100.100.100.200", "100.127.255.255", "127.0.0.1", "127.1.2.3",
		"168.63.129.16", "169.254.0.1", "169.254.169.254", "172.16.0.0", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1",
		"192.88.99.1", "192.168.0.1", "192.168.255.255", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1",
		"239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1",
		"::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "64:ff9b:1::1", "2002:7f00:1::",
		"2002:808:808::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1",
		"2001:db8::1", "3fff::1", "100::1", "5f00::1", "4000::1",
	};
	(void)state;
	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
		if (is_public(list[i]))
			fail_msg("%s passes", list[i]);
}

static void other_families_are_refused(void **state)
{
	struct sockaddr local = { .sa_family = AF_UNIX };
	(void)state;
	assert_false(guard_is_public(&local));
}

/* Returns the pool, or NULL when the URL is refused. */
static struct http_pool *pool_for(const char *url, bool allow_http, bool allow_private, struct err *err)
{
	struct http_pool_options o = { .base_url = url, .allow_http = allow_http, .allow_private = allow_private, .idle_max = 1, .connect_ms = 500 };
	struct http_pool *p = NULL;
	return http_pool_new(&o, &p, err) == 0 ? p : NULL;
}

static void urls_that_are_none_are_refused(void **state)
{
	static const char *const list[] = {
		"", "api.openai.com", "/v1", "https://", "https:///v1", "https:/x", "https:x", "ftp://x/", "file:///etc/passwd", "gopher://x/", "dict://x:11211/", "data:,x",
		"jar:https://x/", "ws://x/", "https://user@x/", "https://user:pass@x/", "https://x/?a=b", "https://x/#f", "https://x y/",
		"https://x/\r\nHost: y", "https://x\\@y/", "https://x:99999/", "https://x:port/", "https://[::1/", "http://x/", "HTTP://x/", "//x/",
	};
	struct err err;
	(void)state;
	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
		if (pool_for(list[i], false, true, &err))
			fail_msg("%s is taken", list[i]);
		assert_int_equal(err.code, ERR_INVALID);
		assert_string_equal(err.param, "base_url");
	}
}

static void good_urls_are_taken(void **state)
{
	static const char *const list[] = { "https://api.openai.com/v1", "https://api.openai.com", "https://api.openai.com/v1/", "https://x:8443/a/b",
					    "HTTPS://Api.Example.COM/v1", "https://8.8.8.8/v1", "https://[2606:4700::1111]/v1" };
	struct err err;
	(void)state;
	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
		struct http_pool *p = pool_for(list[i], false, false, &err);
		if (!p)
			fail_msg("%s: %s", list[i], err.msg);
		http_pool_free(&p);
	}
}

static void count_only(struct http_server *s, int fd)
{
	(void)s;
	(void)fd;
}

/* Every way to write this host, each with the canary's port. */
static void no_spelling_reaches_a_private_listener(void **state)
{
	static const char *const hosts[] = {
		"127.0.0.1", "127.1", "127.0.1", "0177.0.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "017700000001", "127.0.0.1.", "127.0.0.2",
		"localhost", "localhost.", "LOCALHOST", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
		"[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[0:0:0:0:0:0:0:1]", "[fe80::1%25lo]", "0.0.0.0", "0", "0x0", "%31%32%37.0.0.1", "%6cocalhost",
		"\xEF\xBC\x91\xEF\xBC\x92\xEF\xBC\x97.0.0.1", ("127\xE3\x80\x82" "0\xE3\x80\x82" "0\xE3\x80\x82" "1"), ("loc\xC2\xAD" "alhost"),
		"ip6-localhost", "10.0.0.1", "169.254.169.254", "metadata.google.internal",
	};
	struct http_server canary;
	struct arena *a = arena_new(1 << 20);
	(void)state;
	http_server_start(&canary, count_only);
	for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
		char url[256];
		struct err err;
		snprintf(url, sizeof url, "http://%s:%d/v1", hosts[i], canary.port);
		struct http_pool *p = pool_for(url, true, false, &err);
		if (!p)
			continue;
		struct http_exchange x = http_server_exchange(p);
		assert_int_equal(http_run(&x, a, &err), -1);
		assert_true(err.code == ERR_INVALID || err.code == ERR_UPSTREAM_UNAVAILABLE);
		assert_false(x.sent);
		http_pool_free(&p);
	}
	assert_int_equal(http_server_count(&canary.connections), 0);
	http_server_stop(&canary);
	arena_free(&a);
}

static void a_name_that_resolves_to_a_private_address_says_so(void **state)
{
	struct arena *a = arena_new(1 << 20);
	struct err err;
	struct http_pool *p = pool_for("https://localhost:1/v1", false, false, &err);
	(void)state;
	struct http_exchange x = http_server_exchange(p);
	assert_int_equal(http_run(&x, a, &err), -1);
	assert_int_equal(err.code, ERR_INVALID);
	assert_non_null(strstr(err.msg, "private"));
	http_pool_free(&p);
	arena_free(&a);
}

static int open_http(void **state)
{
	struct err err;
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	return http_init("", &err);
}

static int close_http(void **state)
{
	(void)state;
	http_cleanup();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(public_addresses_pass),
		cmocka_unit_test(other_addresses_are_refused),
		cmocka_unit_test(other_families_are_refused),
		cmocka_unit_test(urls_that_are_none_are_refused),
		cmocka_unit_test(good_urls_are_taken),
		cmocka_unit_test(no_spelling_reaches_a_private_listener),
		cmocka_unit_test(a_name_that_resolves_to_a_private_address_says_so),
	};
	return cmocka_run_group_tests(tests, open_http, close_http);
}
