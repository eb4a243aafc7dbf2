// What a handler in C needs of Sandbar beside the contract's own types in handler.h: outputs, failures, settings,
// state, the log, and numbers out of JSON. Link handler.c and sandbar.c.
//
// A handler is two functions:
//
//   bool exports_handler_configure(handler_string_t *refusal);
//   bool exports_handler_handle(handler_reading_t *reading, handler_list_output_t *outputs, handler_failure_t *failure);
//
// `true` is success. What is put into outputs and failures belongs to the host from then on; the reading is yours:
// free it with handler_reading_free, or the instance grows until it is replaced.

#ifndef SANDBAR_H
#define SANDBAR_H

#include <stdarg.h>
#include "handler.h"

#ifdef __cplusplus
extern "C" {
#endif

// A copy of a text that the host may free; formatted as by printf.
void sandbar_vformat(handler_string_t *text, const char *format, va_list arguments);

__attribute__((format(printf, 2, 3))) void sandbar_format(handler_string_t *text, const char *format, ...);

// `return sandbar_reject(failure, "…");` in handle: it never succeeds; the reading becomes a dead letter.
__attribute__((format(printf, 2, 3))) bool sandbar_reject(handler_failure_t *failure, const char *format, ...);

// As sandbar_reject: it may succeed later; the host tries again.
__attribute__((format(printf, 2, 3))) bool sandbar_retry(handler_failure_t *failure, const char *format, ...);

// `return sandbar_refuse(refusal, "…");` in configure: the deployment is undone, and its author sees the text.
__attribute__((format(printf, 2, 3))) bool sandbar_refuse(handler_string_t *refusal, const char *format, ...);

// Room for one output more. Begin with `*outputs = (handler_list_output_t){0}`.
handler_output_t *sandbar_add(handler_list_output_t *outputs, uint8_t tag);

void sandbar_bytes(handler_list_u8_t *list, const void *bytes, size_t length);

// To the route's sinks, and to every route whose filter the topic matches. All is copied.
void sandbar_message(handler_list_output_t *outputs, const char *topic, const char *content_type,
                                    const void *payload, size_t length);

// A line for the host's log; the levels are WASI_LOGGING_LOGGING_LEVEL_INFO and its like.
__attribute__((format(printf, 2, 3))) void sandbar_log(wasi_logging_logging_level_t level, const char *format, ...);

// A setting as text that ends with 0, or NULL if it is not set; free it.
char *sandbar_setting(const char *name);

// A setting as a number, or `otherwise` if it is not set. False, with the refusal said, for one that is no number.
bool sandbar_setting_number(const char *name, double otherwise, double *number, handler_string_t *refusal);

// A value of state of exactly `size` bytes, such as a struct; false if there is none.
bool sandbar_state_get(const char *name, void *value, size_t size);

// Keeps a value for `ttl_ms` milliseconds, or with 0 for as long as the route exists; false if it is too large.
bool sandbar_state_set(const char *name, const void *value, size_t size, uint64_t ttl_ms);

// Asks over HTTP what the route permits, and waits for the answer, whatever its status; free it with
// sandbar_handler_http_response_free. `content_type` is NULL where there is none. On false the failure is said: what may go
// well another time is tried again, the rest is a dead letter. Redirects are not followed.
bool sandbar_fetch(const char *method, const char *url, const char *content_type, const void *body, size_t length,
                   sandbar_handler_http_response_t *answer, handler_failure_t *failure);

// The end of the JSON text that begins at `at`: behind a closing quote, bracket or brace, or a plain word.
const char *sandbar_json_skip(const char *at, const char *end);

// The number in a field of a JSON object; false if the payload is no object, has no such field, or no number in it.
// Fields of nested objects are not looked at. It finds numbers in JSON; it does not check that all else is JSON.
bool sandbar_json_number(const handler_list_u8_t *payload, const char *field, double *number);

#ifdef __cplusplus
}
#endif

#endif
