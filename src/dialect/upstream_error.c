/* SPDX-License-Identifier: Apache-2.0
 * What a provider's error answer means for the caller. The provider's status and code are kept where they are about the call; what is
 * about our account with the provider is ours to know: the caller learns that it failed, the log learns why.
 */
#include "config.h"
#include "dialect/openai.h"

#include "base/arena.h"

static bool about_our_account(int status, const struct openai_error *e)
{
	static const char *const names[] = { "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated" };
	if (status == 401 || status == 402 || status == 403)
		return true;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (str_eq_c(e->code, names[i]) || str_eq_c(e->type, names[i]))
			return true;
	return false;
}

static enum err_code code_of(int status, const struct openai_error *e)
{
	if (status < 500 && about_our_account(status, e))
		return ERR_UPSTREAM_AUTH;
	if (status == 429)
		return ERR_RATE_LIMITED;
	if (status == 408 || status == 504)
		return ERR_UPSTREAM_TIMEOUT;
	if (status >= 500)
		return ERR_UPSTREAM;
	return str_eq(e->code, STR("context_length_exceeded")) ? ERR_CONTEXT_LENGTH : ERR_UPSTREAM_REFUSED;
}

static void keep(char *out, size_t out_n, struct str s)
{
	if (s.n && s.n < out_n)
		snprintf(out, out_n, STR_FMT, STR_ARG(s));
}

static int set_ours(enum err_code code, int status, struct str message, struct err *err)
{
	if (code == ERR_UPSTREAM_AUTH)
		err_set(err, code, "the provider refused the gateway's key or account");
	else
		err_set(err, code, "the provider failed with status %d", status);
	return err_detail(err, "status %d: " STR_FMT, status, STR_ARG(message));
}

/* About the call itself: in the provider's own words. */
static int set_relayed(enum err_code code, int status, const struct openai_error *e, struct err *err)
{
	if (e->message.n)
		err_set(err, code, STR_FMT, STR_ARG(e->message));
	else
		err_set(err, code, "the provider refused the call with status %d", status);
	err->http_status = status;
	keep(err->type, sizeof err->type, e->type);
	keep(err->name, sizeof err->name, e->code);
	keep(err->param, sizeof err->param, e->param);
	return -1;
}

void dialect_upstream_error(const struct dialect *d, int status, int retry_after_ms, struct str body, struct arena *a, struct err *err)
{
	struct json_doc doc;
	struct openai_error e = { STR_NONE, STR_NONE, STR_NONE, STR_NONE };
	(void)d; /* all dialects so far are OpenAI's */
	if (body.n && json_parse(&doc, a, body, &json_limits_upstream, NULL) == 0)
		openai_error_read(json_root(&doc), a, &e);
	enum err_code code = code_of(status, &e);
	if (code == ERR_RATE_LIMITED || code == ERR_UPSTREAM_REFUSED || code == ERR_CONTEXT_LENGTH)
		set_relayed(code, status, &e, err);
	else
		set_ours(code, status, e.message, err);
	err->retry_after_ms = retry_after_ms > 0 ? retry_after_ms : 0;
}
