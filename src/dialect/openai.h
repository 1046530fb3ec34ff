/* SPDX-License-Identifier: Apache-2.0
 * What OpenAI's three dialects have in common: reading members with OpenAI's words for what is wrong, the encoding, usage, and the
 * frame of answers and stream events.
 */
#ifndef DIALECT_OPENAI_H
#define DIALECT_OPENAI_H

#include "dialect/dialect.h"

/* --- reading a request; each: 1 found, 0 absent or null, -1 with err -------------------------------------------------- */
/* Absent: *out_r is the missing value. */
int openai_member(struct json object, struct str name, struct json *out_r, struct err *err);
int openai_bool(struct json object, struct str name, bool *out_r, struct err *err);
int openai_integer(struct json object, struct str name, int64_t min, int64_t max, int64_t *out_r, struct err *err);

int openai_missing(const char *param, struct err *err);
int openai_wrong_type(struct json v, const char *expected, struct err *err); /* param: where v stands */
int openai_empty_array(struct json v, struct err *err);

/* Parse the body and read what all three share: model, user. */
int openai_begin(struct dialect_call *call, const struct dialect *d, struct arena *a, struct str body, struct err *err);
/* stream, stream_options, n: chat and completions. */
int openai_streaming(struct dialect_call *call, struct err *err);
/* A text, several, tokens, or several rows of tokens: embeddings' input and completions' prompt. Adds their units. */
int openai_input(struct json v, int64_t *units, struct err *err);
int openai_encode(const struct dialect_call *call, struct str upstream_model, struct arena *a, struct str *body_r, struct err *err);

/* --- reading an answer ----------------------------------------------------------------------------------------------------- */
/* The units of everything the model wrote in one choice; the bytes of it are added to *bytes. */
typedef int64_t openai_choice_fn(struct json choice, int64_t *bytes);

/* Parse; refuse what is no object or reports an error; read model, id and usage. */
int openai_answer_begin(enum dialect_verb verb, struct json_doc *doc, struct arena *a, struct str body, struct dialect_answer *out_r,
			struct err *err);
/* The array `name`, which a good answer has. */
int openai_answer_array(const struct json_doc *doc, struct str name, struct json *out_r, struct err *err);
/* A whole answer with choices. */
int openai_answer(enum dialect_verb verb, openai_choice_fn *choice, struct arena *a, struct str body, struct dialect_answer *out_r,
		  struct err *err);
/* False when the figures are missing, negative, or larger than can be. */
bool openai_usage(enum dialect_verb verb, struct json usage, struct dialect_usage *out_r);

/* One event of a stream with choices. */
int openai_event(struct dialect_stream *s, struct str type, struct str data, openai_choice_fn *choice, enum dialect_fate *fate_r,
		 struct err *err);

/* Units of one string of text received, its bytes added to *bytes. */
int64_t openai_text(struct json v, int64_t *bytes);

/* Where a provider's error stands in its answer, whatever its shape. Missing when there is none. */
struct openai_error {
	struct str message, type, code, param;
};
bool openai_error_read(struct json root, struct arena *a, struct openai_error *out_r);

#endif
