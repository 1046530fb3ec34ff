/* SPDX-License-Identifier: Apache-2.0
 * The text of an API key and its digest. Ours are `hg_`, 32 base62 characters, 6 base62 characters of their CRC32; adopted ones are
 * any 16-256 printable ASCII characters without comma or space. Only digests are stored.
 */
#ifndef IDENTITY_KEY_H
#define IDENTITY_KEY_H

#include "base/crypto.h"
#include "base/err.h"
#include "base/str.h"

#include <openssl/sha.h>

enum { KEY_RANDOM = 32, KEY_CHECK = 6, KEY_MIN = 16, KEY_MAX = 256 };

/* Make a key, NUL-terminated. `out` takes IDENTITY_KEY_TEXT bytes. */
void key_make(char *out);
bool key_is_ours(struct str key);	  /* begins with hg_ */
bool key_checksum_holds(struct str key);  /* ours, whole and unaltered */
bool key_is_adoptable(struct str key);	  /* a form that can come in a header; ours only with their checksum */

/* HMAC-SHA256 (RFC 2104) under one pepper, the two padded blocks hashed beforehand: EVP would fetch and allocate per key. */
struct key_hasher {
	SHA256_CTX inner, outer;
};
void key_hasher_init(struct key_hasher *h, const unsigned char pepper[32]);
void key_digest(const struct key_hasher *h, struct str key, unsigned char out[SHA256_BYTES]);

/* What may be shown of a key. Returns how many characters: fewer for the short ones that were adopted. */
struct str key_prefix(struct str key);
struct str key_last4(struct str key);

#endif
