/* SPDX-License-Identifier: Apache-2.0
 * TLS with a certificate authority made here: what is trusted, what is refused before a byte of the request leaves (F-34), and that
 * sessions are shared between pairs.
 */
#include "config.h"
#include "http/http.h"

#include "base/arena.h"
#include "base/clock.h"
#include "http_server.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

struct identity {
	X509 *cert;
	EVP_PKEY *key;
};

static struct identity authority, foreign; /* the trusted one, and one that nobody knows */
static char authority_file[64];

/* --- making certificates -------------------------------------------------------------------------------------------------------- */

static void extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(ext);
	X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
}

/* issuer NULL: signed by itself. names NULL: an authority. */
static struct identity make(const struct identity *issuer, const char *names, long from_s, long to_s)
{
	char who[32];
	static long serial;
	struct identity id = { X509_new(), EVP_EC_gen("P-256") };
	const struct identity *by = issuer ? issuer : &id;
	X509_NAME *name = X509_get_subject_name(id.cert);
	X509_set_version(id.cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(id.cert), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(id.cert), from_s);
	X509_gmtime_adj(X509_getm_notAfter(id.cert), to_s);
	X509_set_pubkey(id.cert, id.key);
	snprintf(who, sizeof who, "%s %ld", names ? "peer" : "authority", serial);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)who, -1, -1, 0);
	X509_set_issuer_name(id.cert, X509_get_subject_name(by->cert));
	extend(id.cert, by->cert, NID_basic_constraints, names ? "critical,CA:FALSE" : "critical,CA:TRUE");
	if (names)
		extend(id.cert, by->cert, NID_subject_alt_name, names);
	assert_true(X509_sign(id.cert, by->key, EVP_sha256()) > 0);
	return id;
}

static void identity_free(struct identity *id)
{
	X509_free(id->cert);
	EVP_PKEY_free(id->key);
}

/* --- a peer that speaks TLS -------------------------------------------------------------------------------------------------------- */

static SSL_CTX *peer_ctx;
static unsigned resumed, handshakes;
static const char *peer_answer;

static SSL_CTX *ctx_for(const struct identity *id)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	assert_int_equal(SSL_CTX_use_certificate(ctx, id->cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, id->key), 1);
	SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"t", 1);
	return ctx;
}

static bool read_request(SSL *ssl)
{
	char text[8192];
	size_t have = 0;
	for (;;) {
		int n = SSL_read(ssl, text + have, (int)(sizeof text - 1 - have));
		if (n <= 0)
			return false;
		have += (size_t)n;
		text[have] = '\0';
		if (strstr(text, "\r\n\r\n{\"a\":1}"))
			return true;
	}
}

static void speak_tls(struct http_server *s, int fd)
{
	SSL *ssl = SSL_new(peer_ctx);
	SSL_set_fd(ssl, fd);
	if (SSL_accept(ssl) == 1) {
		__atomic_add_fetch(&handshakes, 1, __ATOMIC_RELEASE);
		__atomic_add_fetch(&resumed, (unsigned)SSL_session_reused(ssl), __ATOMIC_RELEASE);
		if (read_request(ssl)) {
			__atomic_add_fetch(&s->requests, 1, __ATOMIC_RELEASE);
			SSL_write(ssl, peer_answer, (int)strlen(peer_answer));
			SSL_shutdown(ssl);
		}
	}
	SSL_free(ssl);
}

static const char close_answer[] = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 8\r\n\r\n{\"ok\":1}";

struct tls_stage {
	struct http_server server;
	struct http_pool *pool;
	struct arena *a;
	struct err err;
	struct str body;
};

static void begin(struct tls_stage *st, SSL_CTX *ctx)
{
	char url[64];
	memset(st, 0, sizeof *st);
	peer_ctx = ctx;
	peer_answer = close_answer;
	handshakes = resumed = 0;
	http_server_start(&st->server, speak_tls);
	snprintf(url, sizeof url, "https://localhost:%d/v1", st->server.port);
	struct http_pool_options o = { .base_url = url, .allow_private = true, .idle_max = 4, .connect_ms = 20000 }; /* under valgrind a handshake takes seconds */
	assert_int_equal(http_pool_new(&o, &st->pool, &st->err), 0);
	st->a = arena_new(1 << 20);
}

static int fetch(struct tls_stage *st)
{
	struct http_exchange x = http_server_exchange(st->pool);
	x.first_byte_ms = x.total_ms = 20000;
	int r = http_fetch(&x, st->a, NULL, &st->body, &st->err);
	if (r < 0 && st->err.code == ERR_UPSTREAM_UNAVAILABLE)
		assert_false(x.sent);
	return r;
}

static void end(struct tls_stage *st)
{
	http_pool_free(&st->pool);
	http_server_stop(&st->server);
	arena_free(&st->a);
	SSL_CTX_free(peer_ctx);
}

/* --- facts ----------------------------------------------------------------------------------------------------------------------- */

static void a_certificate_of_our_authority_is_trusted(void **state)
{
	struct identity id = make(&authority, "DNS:localhost", -60, 3600);
	struct tls_stage st;
	(void)state;
	begin(&st, ctx_for(&id));
	if (fetch(&st) < 0)
		fail_msg("%s (%s)", st.err.msg, st.err.detail);
	assert_true(str_eq(st.body, STR("{\"ok\":1}")));
	end(&st);
	identity_free(&id);
}

static void expect_refused(struct identity id)
{
	struct tls_stage st;
	begin(&st, ctx_for(&id));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(fetch(&st), -1);
		assert_int_equal(st.err.code, ERR_UPSTREAM_UNAVAILABLE);
		if (!strstr(st.err.msg, "certificate"))
			fail_msg("%s (%s)", st.err.msg, st.err.detail);
	}
	assert_int_equal(http_server_count(&st.server.requests), 0);
	end(&st);
	identity_free(&id);
}

static void a_wrong_name_is_refused(void **state)
{
	(void)state;
	expect_refused(make(&authority, "DNS:example.com", -60, 3600));
	expect_refused(make(&authority, "IP:127.0.0.1", -60, 3600));
}

static void an_expired_certificate_is_refused(void **state)
{
	(void)state;
	expect_refused(make(&authority, "DNS:localhost", -7200, -3600));
	expect_refused(make(&authority, "DNS:localhost", 3600, 7200));
}

static void a_stranger_is_refused(void **state)
{
	(void)state;
	expect_refused(make(NULL, "DNS:localhost", -60, 3600));
	expect_refused(make(&foreign, "DNS:localhost", -60, 3600));
}

static void an_old_protocol_is_refused(void **state)
{
	struct identity id = make(&authority, "DNS:localhost", -60, 3600);
	SSL_CTX *ctx = ctx_for(&id);
	struct tls_stage st;
	(void)state;
	SSL_CTX_set_security_level(ctx, 0);
	SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
	begin(&st, ctx);
	assert_int_equal(fetch(&st), -1);
	assert_int_equal(st.err.code, ERR_UPSTREAM_UNAVAILABLE);
	assert_int_equal(http_server_count(&st.server.requests), 0);
	end(&st);
	identity_free(&id);
}

static void sessions_are_resumed(void **state)
{
	struct identity id = make(&authority, "DNS:localhost", -60, 3600);
	struct tls_stage st;
	(void)state;
	begin(&st, ctx_for(&id));
	for (int i = 0; i < 4; i++)
		assert_int_equal(fetch(&st), 0);
	assert_int_equal(handshakes, 4);
	assert_in_range(resumed, 2, 3);
	end(&st);
	identity_free(&id);
}

static void say_nothing(struct http_server *s, int fd)
{
	http_server_wait_close(s, fd);
}

static void a_handshake_that_hangs_is_a_connect_timeout(void **state)
{
	struct http_server server;
	struct arena *a = arena_new(1 << 20);
	struct http_pool *p = NULL;
	struct err err;
	char url[64];
	(void)state;
	http_server_start(&server, say_nothing);
	snprintf(url, sizeof url, "https://127.0.0.1:%d/v1", server.port);
	struct http_pool_options o = { .base_url = url, .allow_private = true, .idle_max = 4, .connect_ms = 150 };
	assert_int_equal(http_pool_new(&o, &p, &err), 0);
	struct http_exchange x = http_server_exchange(p);
	uint64_t begun = clock_now_us();
	assert_int_equal(http_run(&x, a, &err), -1);
	assert_int_equal(err.code, ERR_UPSTREAM_TIMEOUT);
	assert_non_null(strstr(err.msg, "connect"));
	assert_false(x.sent);
	assert_true(clock_now_us() - begun < 3000000);
	http_pool_free(&p);
	http_server_stop(&server);
	arena_free(&a);
}

static void an_authority_file_that_is_none_is_an_error_of_configuration(void **state)
{
	struct err err;
	(void)state;
	http_cleanup();
	assert_int_equal(http_init("/nonexistent.pem", &err), -1);
	assert_int_equal(err.code, ERR_CONFIG);
	assert_int_equal(http_init("/dev/null", &err), -1);
	assert_int_equal(http_init(authority_file, &err), 0);
}

static int open_http(void **state)
{
	struct err err;
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	authority = make(NULL, NULL, -60, 3600);
	foreign = make(NULL, NULL, -60, 3600);
	snprintf(authority_file, sizeof authority_file, "/tmp/headgate-test-XXXXXX");
	int fd = mkstemp(authority_file);
	FILE *f = fdopen(fd, "w");
	PEM_write_X509(f, authority.cert);
	fclose(f);
	return http_init(authority_file, &err);
}

static int close_http(void **state)
{
	(void)state;
	http_cleanup();
	unlink(authority_file);
	identity_free(&authority);
	identity_free(&foreign);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_certificate_of_our_authority_is_trusted),
		cmocka_unit_test(a_wrong_name_is_refused),
		cmocka_unit_test(an_expired_certificate_is_refused),
		cmocka_unit_test(a_stranger_is_refused),
		cmocka_unit_test(an_old_protocol_is_refused),
		cmocka_unit_test(sessions_are_resumed),
		cmocka_unit_test(a_handshake_that_hangs_is_a_connect_timeout),
		cmocka_unit_test(an_authority_file_that_is_none_is_an_error_of_configuration),
	};
	return cmocka_run_group_tests(tests, open_http, close_http);
}
