/* SPDX-License-Identifier: Apache-2.0
 * OpenSSL's EVP and libargon2 behind the few verbs Headgate needs.
 */
#include "config.h"
#include "base/crypto.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/rand.h"

#include <argon2.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/sha.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

enum { GCM_NONCE = 12, GCM_TAG = 16, ARGON_M_KIB = 47104, ARGON_T = 2, ARGON_P = 1, ARGON_SALT = 16, ARGON_HASH = 32 };

void crypto_sha256(const void *p, size_t n, unsigned char out[SHA256_BYTES])
{
	SHA256(p, n, out);
}

void crypto_hmac_sha256(const void *key, size_t key_n, const void *p, size_t n, unsigned char out[SHA256_BYTES])
{
	/* OpenSSL takes no NULL key, not even an empty one */
	BUG_ON(key_n > INT32_MAX || !HMAC(EVP_sha256(), key ? key : "", (int)key_n, p, n, out, NULL));
}

void crypto_hkdf(const void *ikm, size_t ikm_n, struct str salt, struct str info, void *out, size_t out_n)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	BUG_ON(!kdf);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
	EVP_KDF_free(kdf);
	BUG_ON(!ctx);
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string("digest", digest, 0),
		OSSL_PARAM_construct_octet_string("key", (void *)(uintptr_t)ikm, ikm_n),
		OSSL_PARAM_construct_octet_string("salt", (void *)(uintptr_t)(salt.p ? salt.p : ""), salt.n),
		OSSL_PARAM_construct_octet_string("info", (void *)(uintptr_t)(info.p ? info.p : ""), info.n),
		OSSL_PARAM_construct_end(),
	};
	BUG_ON(EVP_KDF_derive(ctx, out, out_n, params) <= 0);
	EVP_KDF_CTX_free(ctx);
}

bool crypto_equal(const void *a, const void *b, size_t n)
{
	return CRYPTO_memcmp(a, b, n) == 0;
}

void crypto_wipe(void *p, size_t n)
{
	OPENSSL_cleanse(p, n);
}

void crypto_gcm_seal(const unsigned char key[32], struct str aad, struct str plain, struct buf *out)
{
	BUG_ON(plain.n > INT32_MAX || aad.n > INT32_MAX);
	unsigned char *to = (unsigned char *)buf_reserve(out, plain.n + GCM_OVERHEAD);
	if (!to)
		return;
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	BUG_ON(!ctx);
	int n = 0;
	rand_bytes(to, GCM_NONCE);
	BUG_ON(EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, to) != 1);
	BUG_ON(aad.n && EVP_EncryptUpdate(ctx, NULL, &n, (const unsigned char *)aad.p, (int)aad.n) != 1);
	BUG_ON(plain.n && EVP_EncryptUpdate(ctx, to + GCM_NONCE, &n, (const unsigned char *)plain.p, (int)plain.n) != 1);
	BUG_ON(EVP_EncryptFinal_ex(ctx, to + GCM_NONCE + plain.n, &n) != 1);
	BUG_ON(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, GCM_TAG, to + GCM_NONCE + plain.n) != 1);
	EVP_CIPHER_CTX_free(ctx);
	out->n += plain.n + GCM_OVERHEAD;
	out->p[out->n] = '\0';
}

int crypto_gcm_open(const unsigned char key[32], struct str aad, struct str sealed, struct arena *a, struct str *plain_r, struct err *err)
{
	if (sealed.n < GCM_OVERHEAD || sealed.n > INT32_MAX || aad.n > INT32_MAX)
		return err_set(err, ERR_INVALID, "sealed value is malformed");
	const unsigned char *from = (const unsigned char *)sealed.p;
	size_t text_n = sealed.n - GCM_OVERHEAD;
	unsigned char *plain = arena_zalloc(a, text_n + 1);
	unsigned char tag[GCM_TAG];
	memcpy(tag, from + GCM_NONCE + text_n, GCM_TAG);
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	BUG_ON(!ctx);
	int n = 0;
	BUG_ON(EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, from) != 1);
	BUG_ON(aad.n && EVP_DecryptUpdate(ctx, NULL, &n, (const unsigned char *)aad.p, (int)aad.n) != 1);
	BUG_ON(text_n && EVP_DecryptUpdate(ctx, plain, &n, from + GCM_NONCE, (int)text_n) != 1);
	BUG_ON(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, GCM_TAG, tag) != 1);
	int ok = EVP_DecryptFinal_ex(ctx, plain + text_n, &n);
	EVP_CIPHER_CTX_free(ctx);
	if (ok != 1) {
		crypto_wipe(plain, text_n);
		return err_set(err, ERR_INVALID, "sealed value does not open under this key and place");
	}
	*plain_r = str_pn((char *)plain, text_n);
	return 0;
}

int crypto_password_hash(struct str pepper, struct str password, char out[CRYPTO_PHC_TEXT], struct err *err)
{
	unsigned char peppered[SHA256_BYTES], salt[ARGON_SALT];
	crypto_hmac_sha256(pepper.p, pepper.n, password.p, password.n, peppered);
	rand_bytes(salt, sizeof salt);
	int rc = argon2id_hash_encoded(ARGON_T, ARGON_M_KIB, ARGON_P, peppered, sizeof peppered, salt, sizeof salt, ARGON_HASH, out, CRYPTO_PHC_TEXT);
	crypto_wipe(peppered, sizeof peppered);
	if (rc != ARGON2_OK)
		return err_set(err, ERR_INTERNAL, "cannot hash the password: %s", argon2_error_message(rc));
	return 0;
}

int crypto_password_verify(struct str pepper, struct str password, const char *phc, struct err *err)
{
	unsigned char peppered[SHA256_BYTES];
	crypto_hmac_sha256(pepper.p, pepper.n, password.p, password.n, peppered);
	int rc = argon2id_verify(phc, peppered, sizeof peppered);
	crypto_wipe(peppered, sizeof peppered);
	if (rc == ARGON2_OK)
		return 1;
	if (rc == ARGON2_VERIFY_MISMATCH)
		return 0;
	return err_set(err, ERR_INTERNAL, "cannot verify the password: %s", argon2_error_message(rc));
}

void crypto_base64(const void *p, size_t n, struct buf *out)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *in = p;
	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)in[i] << 16 | (uint32_t)(i + 1 < n ? in[i + 1] : 0) << 8 | (uint32_t)(i + 2 < n ? in[i + 2] : 0);
		char quad[4] = { alphabet[v >> 18], alphabet[v >> 12 & 63], i + 1 < n ? alphabet[v >> 6 & 63] : '=', i + 2 < n ? alphabet[v & 63] : '=' };
		buf_add(out, quad, 4);
	}
}

static int unbase64_char(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool crypto_unbase64(struct str s, struct buf *out)
{
	if (s.n % 4)
		return false;
	for (size_t i = 0; i < s.n; i += 4) {
		bool last = i + 4 == s.n;
		unsigned pad = last ? (unsigned)(s.p[i + 3] == '=') + (unsigned)(s.p[i + 2] == '=' && s.p[i + 3] == '=') : 0;
		uint32_t v = 0;
		for (unsigned k = 0; k < 4; k++) {
			int d = k >= 4 - pad ? 0 : unbase64_char(s.p[i + k]);
			if (d < 0)
				return false;
			v = v << 6 | (uint32_t)d;
		}
		if (pad && (v & (pad == 1 ? 0xFFu : 0xFFFFu)))
			return false;
		char bytes[3] = { (char)(v >> 16), (char)(v >> 8), (char)v };
		buf_add(out, bytes, 3 - pad);
	}
	return !out->overflow;
}

void crypto_hex(const void *p, size_t n, char *out)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *in = p;
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = hex[in[i] >> 4];
		out[2 * i + 1] = hex[in[i] & 15];
	}
	out[2 * n] = '\0';
}

/* A core pattern that is a pipe disregards the limit; of a process that is not dumpable it gets nothing either. */
void crypto_no_dumps(void)
{
	const struct rlimit none = { 0, 0 };
	BUG_ON(setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0);
}
