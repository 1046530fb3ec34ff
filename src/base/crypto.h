/* SPDX-License-Identifier: Apache-2.0
 * The cryptographic verbs, on OpenSSL's EVP and libargon2. Functions that cannot fail by input abort when the library
 * fails (out of memory, no entropy). Secrets live in `struct secret`, which is wiped and has no printf format.
 */
#ifndef BASE_CRYPTO_H
#define BASE_CRYPTO_H

#include "base/err.h"
#include "base/str.h"

struct arena;
struct buf;

#define SHA256_BYTES 32
void crypto_sha256(const void *p, size_t n, unsigned char out[SHA256_BYTES]);
void crypto_hmac_sha256(const void *key, size_t key_n, const void *p, size_t n, unsigned char out[SHA256_BYTES]);
/* HKDF-SHA256 (RFC 5869), extract and expand; out_n at most 255 * 32. */
void crypto_hkdf(const void *ikm, size_t ikm_n, struct str salt, struct str info, void *out, size_t out_n);
bool crypto_equal(const void *a, const void *b, size_t n); /* constant time */
void crypto_wipe(void *p, size_t n);
/* This process and those it starts leave no core file, and no other process of the same user may read its memory (F-73).
 * Called first in main, before a secret is read. */
void crypto_no_dumps(void);

/* AES-256-GCM (NIST SP 800-38D). Sealed form: 12 bytes nonce, ciphertext, 16 bytes tag.
 * `aad` binds the place where it is stored. Open returns -1 (ERR_INVALID) when anything does not match. */
#define GCM_OVERHEAD 28
void crypto_gcm_seal(const unsigned char key[32], struct str aad, struct str plain, struct buf *out);
int crypto_gcm_open(const unsigned char key[32], struct str aad, struct str sealed, struct arena *a, struct str *plain_r, struct err *err);

/* Passwords: argon2id, m = 47104 KiB, t = 2, p = 1, 16 bytes salt, 32 bytes tag (OWASP Password Storage; M13), as a PHC
 * string, over HMAC-SHA256(pepper, password). About 70 ms and 46 MiB. */
#define CRYPTO_PHC_TEXT 128
int crypto_password_hash(struct str pepper, struct str password, char out[CRYPTO_PHC_TEXT], struct err *err);
/* Returns 1 right, 0 wrong, -1 error (not a PHC string of ours). */
int crypto_password_verify(struct str pepper, struct str password, const char *phc, struct err *err);

/* Base64 (RFC 4648 section 4, padded) and hex. Decoders return false for anything malformed. */
void crypto_base64(const void *p, size_t n, struct buf *out);
bool crypto_unbase64(struct str s, struct buf *out);
void crypto_hex(const void *p, size_t n, char *out); /* 2n characters and a NUL */

#endif
