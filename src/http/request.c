/* SPDX-License-Identifier: Apache-2.0
 * Telling libcurl what the caller asks for: checked headers and path, and of the options only those that differ from the last time.
 */
#include "config.h"
#include "http/pool.h"

#include "base/arena.h"

static const unsigned char token_char[256] = {
	['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1, ['\''] = 1, ['*'] = 1, ['+'] = 1, ['-'] = 1, ['.'] = 1, ['^'] = 1,
	['_'] = 1, ['`'] = 1, ['|'] = 1, ['~'] = 1, ['0' ... '9'] = 1, ['a' ... 'z'] = 1, ['A' ... 'Z'] = 1,
};

static bool name_ok(struct str name)
{
	for (size_t i = 0; i < name.n; i++)
		if (!token_char[(unsigned char)name.p[i]])
			return false;
	return name.n > 0;
}

static bool value_ok(struct str value)
{
	for (size_t i = 0; i < value.n; i++) {
		unsigned char c = (unsigned char)value.p[i];
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

/* Fields that frame the message are libcurl's to write. */
static bool is_framing(struct str name)
{
	return str_ieq(name, STR("content-length")) || str_ieq(name, STR("transfer-encoding")) || str_ieq(name, STR("connection")) ||
	       str_ieq(name, STR("host")) || str_ieq(name, STR("expect"));
}

static int check_path(struct str path, struct err *err)
{
	for (size_t i = 0; i < path.n; i++)
		if ((unsigned char)path.p[i] <= 0x20 || path.p[i] == 0x7f || path.p[i] == '#')
			return err_set(err, ERR_INVALID, "the path for the provider has a character it must not have");
	if (path.n && path.p[0] != '/' && path.p[0] != '?')
		return err_set(err, ERR_INVALID, "the path for the provider must begin with a slash");
	return 0;
}

static struct curl_slist *slist_item(struct arena *a, const struct http_field *f)
{
	/* "name: value"; libcurl wants "name;" for an empty value and takes "name:" as "do not send". */
	size_t n = f->name.n + f->value.n + 2;
	char *text = arena_alloc(a, n + 1), *at = text + f->name.n;
	arena_wipe_on_clear(a, text, n + 1); /* one of them carries the provider's key */
	memcpy(text, f->name.p, f->name.n);
	*at++ = f->value.n ? ':' : ';';
	if (f->value.n) {
		*at++ = ' ';
		memcpy(at, f->value.p, f->value.n);
		at += f->value.n;
	}
	*at = '\0';
	struct curl_slist *item = arena_alloc(a, sizeof *item);
	*item = (struct curl_slist){ .data = text };
	return item;
}

/* The list lives in the arena: libcurl only reads it, and it is taken away again before the exchange ends. */
int request_headers(const struct http_exchange *x, struct arena *a, struct curl_slist **out_r, struct err *err)
{
	static char no_expect[] = "Expect:", json[] = "Content-Type: application/json";
	struct curl_slist *list = arena_alloc(a, sizeof *list), **tail = &list->next;
	*list = (struct curl_slist){ .data = no_expect }; /* else a large body waits a second for a 100 */
	bool typed = !x->body.n;
	if (check_path(x->path, err) < 0)
		return -1;
	for (unsigned i = 0; i < x->nheaders; i++) {
		const struct http_field *f = &x->headers[i];
		if (!name_ok(f->name) || !value_ok(f->value) || is_framing(f->name))
			return err_set(err, ERR_INVALID, "a header for the provider has a character or name it must not have");
		typed |= str_ieq(f->name, STR("content-type"));
		*tail = slist_item(a, f);
		tail = &(*tail)->next;
	}
	if (!typed) {
		*tail = arena_alloc(a, sizeof **tail);
		**tail = (struct curl_slist){ .data = json };
	}
	*out_r = list;
	return 0;
}

static int set_url(struct http_pair *pair, struct str path, struct err *err)
{
	struct str base = pair->pool->base_url, have = buf_view(&pair->url);
	if (have.n == base.n + path.n && str_ends(have, path))
		return 0;
	buf_clear(&pair->url);
	buf_str(&pair->url, base);
	buf_str(&pair->url, path);
	if (pair->url.overflow || curl_easy_setopt(pair->easy, CURLOPT_URL, buf_cstr(&pair->url)) != CURLE_OK) {
		buf_clear(&pair->url);
		return err_set(err, ERR_INVALID, "the URL for the provider is too long");
	}
	return 0;
}

/* The verb, told only when it differs from the last one's. */
static int set_method(struct http_pair *pair, const struct http_exchange *x)
{
	CURL *e = pair->easy;
	bool get = !x->body.n && strcmp(x->method, "POST") != 0 && strcmp(x->method, "PUT") != 0;
	if (!get && (curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->body.n) != CURLE_OK ||
		     curl_easy_setopt(e, CURLOPT_POSTFIELDS, x->body.n ? x->body.p : "") != CURLE_OK))
		return -1;
	if (strcmp(pair->method, x->method) == 0 && !get)
		return 0;
	if (get && curl_easy_setopt(e, CURLOPT_HTTPGET, 1L) != CURLE_OK)
		return -1;
	bool usual = strcmp(x->method, get ? "GET" : "POST") == 0;
	snprintf(pair->method, sizeof pair->method, "%s", x->method);
	return curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, usual ? NULL : x->method) == CURLE_OK ? 0 : -1;
}

int request_set(struct http_pair *pair, const struct http_exchange *x, struct curl_slist *headers, struct err *err)
{
	if (set_url(pair, x->path, err) < 0)
		return -1;
	if (set_method(pair, x) < 0 || curl_easy_setopt(pair->easy, CURLOPT_HTTPHEADER, headers) != CURLE_OK)
		return err_set(err, ERR_INTERNAL, "cannot set up the request to the provider");
	pair->text[0] = '\0';
	pair->refused_private = false;
	return 0;
}

void request_unset(struct http_pair *pair)
{
	curl_easy_setopt(pair->easy, CURLOPT_HTTPHEADER, NULL);
	curl_easy_setopt(pair->easy, CURLOPT_POSTFIELDS, NULL);
}
