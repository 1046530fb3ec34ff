/* SPDX-License-Identifier: Apache-2.0
 * The key ring: the keys of master.key, and everything derived from them. A master key itself encrypts nothing: every purpose and
 * every sealed record has its own key by HKDF, and the place of a record is bound in as additional data, so that a ciphertext
 * moved to another row does not open (P-59). Keys are kept in locked memory and wiped.
 */
#include "config.h"
#include "store/store.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/crypto.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEY_BYTES = 32, ID_MAX = 32, KEYS_MAX = 64, FILE_MAX_BYTES = 64 * 1024 };

struct key {
	char id[ID_MAX + 1];
	unsigned char bytes[KEY_BYTES];
};

struct keyring {
	unsigned n;
	struct key keys[KEYS_MAX]; /* newest first */
};

/* --- life --- */

static struct keyring *ring_new(void)
{
	struct keyring *k = mmap(NULL, sizeof *k, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	BUG_ON(k == MAP_FAILED);
	/* RLIMIT_MEMLOCK may forbid the lock; the dump is always kept clean. */
	if (mlock(k, sizeof *k) != 0)
		errno = 0;
	madvise(k, sizeof *k, MADV_DONTDUMP);
	return k;
}

void keyring_free(struct keyring **kp)
{
	struct keyring *k = *kp;
	if (!k)
		return;
	crypto_wipe(k, sizeof *k);
	munmap(k, sizeof *k);
	*kp = NULL;
}

/* --- the file --- */

static bool is_id(struct str s)
{
	if (s.n == 0 || s.n > ID_MAX)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
		if (!good)
			return false;
	}
	return true;
}

static const struct key *find_key(const struct keyring *k, struct str id)
{
	for (unsigned i = 0; i < k->n; i++)
		if (str_eq_c(id, k->keys[i].id))
			return &k->keys[i];
	return NULL;
}

static const char *add_line(struct keyring *k, struct str line)
{
	unsigned char room[3 * KEY_BYTES]; /* so that the decoder never leaves a copy on the heap */
	struct str id;
	if (!str_split(&line, ':', &id) || !is_id(id))
		return "must be ID:BASE64, an id of 1 to 32 letters, digits, - _ .";
	if (find_key(k, id))
		return "repeats an id";
	if (k->n == KEYS_MAX)
		return "is one key too many";
	struct arena *a = arena_new(1024);
	struct buf bytes;
	buf_init(&bytes, a, sizeof room);
	bool good = crypto_unbase64(str_trim(line), &bytes) && bytes.n == KEY_BYTES;
	if (good) {
		struct key *key = &k->keys[k->n++];
		memcpy(key->id, id.p, id.n);
		memcpy(key->bytes, bytes.p, KEY_BYTES);
	}
	if (bytes.p)
		crypto_wipe(bytes.p, bytes.cap);
	arena_free(&a);
	return good ? NULL : "does not hold 32 bytes in base64";
}

static int parse(struct keyring *k, const char *path, struct str text, struct err *err)
{
	struct str rest = text, line;
	for (unsigned number = 1; str_split(&rest, '\n', &line); number++) {
		line = str_trim(line);
		if (line.n && line.p[line.n - 1] == '\r')
			line.n--;
		const char *wrong = line.n == 0 || line.p[0] == '#' ? NULL : add_line(k, line);
		if (wrong)
			return err_set(err, ERR_CONFIG, "%s:%u: the line %s", path, number, wrong);
	}
	return k->n ? 0 : err_set(err, ERR_CONFIG, "%s holds no key", path);
}

static int check_file(int fd, const char *path, struct err *err)
{
	struct stat st;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return err_set(err, ERR_CONFIG, "%s is not a file", path);
	if (st.st_mode & (S_IRWXO | S_IWGRP))
		return err_set(err, ERR_CONFIG, "%s may be read or changed by others: chmod 0400", path);
	if (st.st_size > FILE_MAX_BYTES)
		return err_set(err, ERR_CONFIG, "%s is too large", path);
	return 0;
}

static int read_keys(struct keyring *k, int fd, const char *path, struct err *err)
{
	static const size_t max = FILE_MAX_BYTES;
	char *text = mmap(NULL, max, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	BUG_ON(text == MAP_FAILED);
	size_t n = 0;
	ssize_t got = 1;
	while (n < max && (got = read(fd, text + n, max - n)) > 0)
		n += (size_t)got;
	int rc = got < 0 ? err_set(err, ERR_CONFIG, "cannot read %s: %m", path) : parse(k, path, str_pn(text, n), err);
	crypto_wipe(text, max);
	munmap(text, max);
	return rc;
}

int keyring_load(const char *path, struct keyring **out_r, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, ERR_CONFIG, "cannot open the master key %s: %m", path);
	struct keyring *k = ring_new();
	int rc = check_file(fd, path, err) == 0 ? read_keys(k, fd, path, err) : -1;
	close(fd);
	if (rc == 0)
		*out_r = k;
	else
		keyring_free(&k);
	return rc;
}

/* The id is random too, so that keys of two installations are never taken for each other. */
static void make_line(char *out, size_t out_n, size_t *n_r)
{
	unsigned char bytes[KEY_BYTES];
	char id[9] = { 0 };
	struct arena *a = arena_new(1024);
	struct buf line;
	buf_init(&line, a, out_n);
	rand_base62(id, 8);
	rand_bytes(bytes, sizeof bytes);
	buf_printf(&line, "k%s:", id);
	crypto_base64(bytes, sizeof bytes, &line);
	buf_char(&line, '\n');
	memcpy(out, line.p, line.n);
	*n_r = line.n;
	crypto_wipe(bytes, sizeof bytes);
	crypto_wipe(line.p, line.n);
	arena_free(&a);
}

int keyring_create(const char *path, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
	if (fd < 0)
		return err_set(err, errno == EEXIST ? ERR_CONFLICT : ERR_IO, "cannot create the master key %s: %m", path);
	char line[128];
	size_t n;
	make_line(line, sizeof line, &n);
	bool good = write(fd, line, n) == (ssize_t)n && fsync(fd) == 0;
	int code = errno;
	crypto_wipe(line, sizeof line);
	if (close(fd) == 0 && good)
		return 0;
	unlink(path);
	errno = code;
	return err_set(err, ERR_IO, "cannot write the master key %s: %m", path);
}

/* --- keys --- */

struct str keyring_id(const struct keyring *k, unsigned index)
{
	return index < k->n ? str_c(k->keys[index].id) : STR_NONE;
}

struct str keyring_newest(const struct keyring *k)
{
	return keyring_id(k, 0);
}

/* Two name spaces of one HKDF: purposes and places never meet. */
static void derive(const struct key *key, const char *space, struct str name, unsigned char out[KEY_BYTES])
{
	crypto_hkdf(key->bytes, KEY_BYTES, str_c(space), name, out, KEY_BYTES);
}

static int unknown_key(struct str id, struct err *err)
{
	return err_set(err, ERR_CONFIG, "the master key file has no key " STR_FMT, (int)(id.n > ID_MAX ? ID_MAX : id.n), id.p ? id.p : "");
}

int keyring_derive(const struct keyring *k, struct str id, struct str purpose, unsigned char out[32], struct err *err)
{
	const struct key *key = find_key(k, id);
	if (!key)
		return unknown_key(id, err);
	derive(key, "headgate purpose", purpose, out);
	return 0;
}

void keyring_seal(const struct keyring *k, struct str place, struct str plain, struct buf *sealed, struct str *id_r)
{
	unsigned char record[KEY_BYTES];
	derive(&k->keys[0], "headgate record", place, record);
	crypto_gcm_seal(record, place, plain, sealed);
	crypto_wipe(record, sizeof record);
	*id_r = keyring_newest(k);
}

int keyring_unseal(const struct keyring *k, struct str id, struct str place, struct str sealed, struct arena *a, struct str *plain_r, struct err *err)
{
	const struct key *key = find_key(k, id);
	if (!key)
		return unknown_key(id, err);
	unsigned char record[KEY_BYTES];
	derive(key, "headgate record", place, record);
	int rc = crypto_gcm_open(record, place, sealed, a, plain_r, err);
	crypto_wipe(record, sizeof record);
	return rc;
}
