/* SPDX-License-Identifier: Apache-2.0
 * What all outgoing connections of a process share: one certificate store (a store per connection costs 800 KB and 18 ms),
 * resolved names, and TLS sessions. Connections themselves are not shared: libcurl does not make that safe between threads.
 */
#include "config.h"
#include "http/http.h"

#include "http/pool.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <unistd.h>

static struct {
	X509_STORE *store; /* read-only after http_init but for what OpenSSL locks itself */
	CURLSH *share;
	/* One lock per kind of data; innermost: libcurl takes nothing else of ours while holding one. */
	pthread_mutex_t locks[CURL_LOCK_DATA_LAST];
} shared;

static void lock(CURL *easy, curl_lock_data data, curl_lock_access access, void *user)
{
	(void)easy;
	(void)access;
	(void)user;
	pthread_mutex_lock(&shared.locks[data]);
}

static void unlock(CURL *easy, curl_lock_data data, void *user)
{
	(void)easy;
	(void)user;
	pthread_mutex_unlock(&shared.locks[data]);
}

/* The system's certificates: the hashed directory is read on demand, the bundle only where there is one. No environment. */
static bool load_system(X509_STORE *store)
{
	const char *dir = X509_get_default_cert_dir(), *file = X509_get_default_cert_file();
	bool ok = access(dir, R_OK | X_OK) == 0 && X509_STORE_load_path(store, dir) == 1;
	if (access(file, R_OK) == 0)
		ok |= X509_STORE_load_file(store, file) == 1;
	return ok;
}

static int store_open(const char *ca_file, struct err *err)
{
	X509_STORE *store = X509_STORE_new();
	if (!store)
		return err_set(err, ERR_INTERNAL, "cannot make a certificate store");
	bool given = ca_file && *ca_file;
	if (given ? X509_STORE_load_file(store, ca_file) != 1 : !load_system(store)) {
		X509_STORE_free(store);
		if (!given)
			return err_set(err, ERR_CONFIG, "the system has no certificate authorities: install ca-certificates");
		return err_set(err, ERR_CONFIG, "cannot read certificate authorities from %s", ca_file);
	}
	shared.store = store;
	return 0;
}

static int share_open(struct err *err)
{
	for (int i = 0; i < CURL_LOCK_DATA_LAST; i++)
		pthread_mutex_init(&shared.locks[i], NULL);
	shared.share = curl_share_init();
	if (!shared.share)
		return err_set(err, ERR_INTERNAL, "curl_share_init failed");
	bool ok = curl_share_setopt(shared.share, CURLSHOPT_LOCKFUNC, lock) == CURLSHE_OK &&
		  curl_share_setopt(shared.share, CURLSHOPT_UNLOCKFUNC, unlock) == CURLSHE_OK &&
		  curl_share_setopt(shared.share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS) == CURLSHE_OK &&
		  curl_share_setopt(shared.share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) == CURLSHE_OK;
	return ok ? 0 : err_set(err, ERR_INTERNAL, "curl_share_setopt failed");
}

int http_init(const char *ca_file, struct err *err)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return err_set(err, ERR_INTERNAL, "curl_global_init failed");
	if (store_open(ca_file, err) == 0 && share_open(err) == 0)
		return 0;
	http_cleanup();
	return -1;
}

void http_cleanup(void)
{
	if (shared.share)
		curl_share_cleanup(shared.share);
	X509_STORE_free(shared.store);
	shared.share = NULL;
	shared.store = NULL;
	curl_global_cleanup();
}

static CURLcode set_up_tls(CURL *easy, void *ssl_ctx, void *user)
{
	(void)easy;
	(void)user;
	SSL_CTX_set1_cert_store(ssl_ctx, shared.store);
	return CURLE_OK;
}

void http_share(CURL *easy)
{
	/* Else libcurl would load its built-in bundle for each new connection before asking us. */
	curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
	curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, set_up_tls);
	curl_easy_setopt(easy, CURLOPT_SHARE, shared.share);
}
