// What sandbar.h declares.

#include "sandbar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sandbar_vformat(handler_string_t *text, const char *format, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  int length = vsnprintf(NULL, 0, format, arguments);
  text->len = length < 0 ? 0 : (size_t)length;
  text->ptr = (uint8_t *)malloc(text->len + 1);
  if (text->ptr == NULL) abort();
  vsnprintf((char *)text->ptr, text->len + 1, format, again);
  va_end(again);
}

void sandbar_format(handler_string_t *text, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  sandbar_vformat(text, format, arguments);
  va_end(arguments);
}

bool sandbar_reject(handler_failure_t *failure, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  failure->tag = SANDBAR_HANDLER_TYPES_FAILURE_REJECT;
  sandbar_vformat(&failure->val.reject, format, arguments);
  va_end(arguments);
  return false;
}

bool sandbar_retry(handler_failure_t *failure, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  failure->tag = SANDBAR_HANDLER_TYPES_FAILURE_RETRY;
  sandbar_vformat(&failure->val.retry, format, arguments);
  va_end(arguments);
  return false;
}

bool sandbar_refuse(handler_string_t *refusal, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  sandbar_vformat(refusal, format, arguments);
  va_end(arguments);
  return false;
}

handler_output_t *sandbar_add(handler_list_output_t *outputs, uint8_t tag) {
  size_t size = (outputs->len + 1) * sizeof(handler_output_t);
  handler_output_t *grown = (handler_output_t *)realloc(outputs->ptr, size);
  if (grown == NULL) abort();
  outputs->ptr = grown;
  handler_output_t *output = &grown[outputs->len++];
  memset(output, 0, sizeof *output);
  output->tag = tag;
  return output;
}

void sandbar_bytes(handler_list_u8_t *list, const void *bytes, size_t length) {
  list->len = length;
  list->ptr = (uint8_t *)malloc(length == 0 ? 1 : length);
  if (list->ptr == NULL) abort();
  memcpy(list->ptr, bytes, length);
}

void sandbar_message(handler_list_output_t *outputs, const char *topic, const char *content_type,
                                    const void *payload, size_t length) {
  sandbar_handler_types_message_t *message = &sandbar_add(outputs, SANDBAR_HANDLER_TYPES_OUTPUT_MESSAGE)->val.message;
  handler_string_dup(&message->topic, topic);
  handler_string_dup(&message->content_type, content_type);
  sandbar_bytes(&message->payload, payload, length);
}

void sandbar_log(wasi_logging_logging_level_t level, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  handler_string_t context = {0}, line;
  sandbar_vformat(&line, format, arguments);
  va_end(arguments);
  wasi_logging_logging_log(level, &context, &line);
  handler_string_free(&line);
}

char *sandbar_setting(const char *name) {
  handler_string_t key = {(uint8_t *)name, strlen(name)};
  handler_option_string_t value;
  wasi_config_store_error_t error;
  if (!wasi_config_store_get(&key, &value, &error) || !value.is_some) return NULL;
  char *text = strndup((char *)value.val.ptr, value.val.len);
  handler_string_free(&value.val);
  if (text == NULL) abort();
  return text;
}

bool sandbar_setting_number(const char *name, double otherwise, double *number, handler_string_t *refusal) {
  char *text = sandbar_setting(name), *end;
  *number = otherwise;
  if (text == NULL) return true;
  *number = strtod(text, &end);
  bool is_number = end != text && *end == 0 && *number - *number == 0;
  if (!is_number) sandbar_refuse(refusal, "setting `%s` is \"%s\", not a number", name, text);
  free(text);
  return is_number;
}

bool sandbar_state_get(const char *name, void *value, size_t size) {
  handler_string_t key = {(uint8_t *)name, strlen(name)};
  handler_list_u8_t bytes;
  if (!sandbar_handler_state_get(&key, &bytes)) return false;
  bool fits = bytes.len == size;
  if (fits) memcpy(value, bytes.ptr, size);
  handler_list_u8_free(&bytes);
  return fits;
}

bool sandbar_state_set(const char *name, const void *value, size_t size, uint64_t ttl_ms) {
  handler_string_t key = {(uint8_t *)name, strlen(name)};
  handler_list_u8_t bytes = {(uint8_t *)value, size};
  sandbar_handler_state_state_error_t error;
  return sandbar_handler_state_set(&key, &bytes, ttl_ms == 0 ? NULL : &ttl_ms, &error);
}

static handler_string_t sandbar_borrow(const char *text) {
  handler_string_t borrowed = {(uint8_t *)text, strlen(text)};
  return borrowed;
}

static bool sandbar_no_answer(sandbar_handler_http_http_error_t *error, const char *url, handler_failure_t *failure) {
  bool later = error->tag == SANDBAR_HANDLER_HTTP_HTTP_ERROR_FAILED;
  if (error->tag == SANDBAR_HANDLER_HTTP_HTTP_ERROR_TOO_LARGE) {
    sandbar_reject(failure, "%s: the answers have more than %u bytes", url, (unsigned)error->val.too_large);
  } else {
    // The other three have a text in the same place.
    handler_string_t *why = &error->val.denied;
    (later ? sandbar_retry : sandbar_reject)(failure, "%s: %.*s", url, (int)why->len, (char *)why->ptr);
  }
  sandbar_handler_http_http_error_free(error);
  return false;
}

bool sandbar_fetch(const char *method, const char *url, const char *content_type, const void *body, size_t length,
                   sandbar_handler_http_response_t *answer, handler_failure_t *failure) {
  sandbar_handler_http_attribute_t header = {sandbar_borrow("content-type"), sandbar_borrow(content_type ? content_type : "")};
  sandbar_handler_http_request_t request = {
    .method = sandbar_borrow(method),
    .url = sandbar_borrow(url),
    .headers = {&header, content_type ? 1 : 0},
    .body = {(uint8_t *)body, length},
  };
  sandbar_handler_http_http_error_t error;
  if (sandbar_handler_http_send(&request, answer, &error)) return true;
  return sandbar_no_answer(&error, url, failure);
}

const char *sandbar_json_skip(const char *at, const char *end) {
  int depth = 0;
  do {
    if (at >= end) return NULL;
    if (*at == '"') {
      for (at++; at < end && *at != '"'; at++) at += *at == '\\';
      if (at >= end) return NULL;
      at++;
    } else if (*at == '{' || *at == '[') {
      depth++, at++;
    } else if (*at == '}' || *at == ']') {
      depth--, at++;
    } else if (depth > 0) {
      at++;
    } else {
      while (at < end && strchr(",}] \t\r\n", *at) == NULL) at++;
    }
  } while (depth > 0);
  return at;
}

bool sandbar_json_number(const handler_list_u8_t *payload, const char *field, double *number) {
  const char *at = (const char *)payload->ptr, *end = at + payload->len;
  size_t length = strlen(field);
#define SANDBAR_BLANKS while (at < end && strchr(" \t\r\n", *at) != NULL) at++
  SANDBAR_BLANKS;
  if (at >= end || *at++ != '{') return false;
  for (;;) {
    SANDBAR_BLANKS;
    if (at >= end || *at != '"') return false;
    const char *name = at + 1;
    if ((at = sandbar_json_skip(at, end)) == NULL) return false;
    bool is_it = (size_t)(at - 1 - name) == length && memcmp(name, field, length) == 0;
    SANDBAR_BLANKS;
    if (at >= end || *at++ != ':') return false;
    SANDBAR_BLANKS;
    const char *value = at;
    if ((at = sandbar_json_skip(at, end)) == NULL) return false;
    if (is_it) {
      char text[64], *stop;
      size_t size = (size_t)(at - value);
      if (size == 0 || size >= sizeof text || strchr("-0123456789", *value) == NULL) return false;
      memcpy(text, value, size);
      text[size] = 0;
      *number = strtod(text, &stop);
      return *stop == 0;
    }
    SANDBAR_BLANKS;
    if (at >= end || *at++ != ',') return false;
  }
#undef SANDBAR_BLANKS
}
