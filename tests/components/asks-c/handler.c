// Does what its reading's payload says (`ask METHOD URL [BODY]`) and puts out what came of it.

#include <stdlib.h>
#include <string.h>

#include "sandbar.h"

bool exports_handler_configure(handler_string_t *refusal) {
  (void)refusal;
  return true;
}

bool exports_handler_handle(handler_reading_t *reading, handler_list_output_t *outputs, handler_failure_t *failure) {
  char *asked = strndup((char *)reading->payload.ptr, reading->payload.len);
  handler_reading_free(reading);
  if (asked == NULL) abort();
  strtok(asked, " ");
  char *method = strtok(NULL, " "), *url = strtok(NULL, " "), *body = strtok(NULL, "");
  sandbar_handler_http_response_t answer;
  bool answered = sandbar_fetch(method, url, body ? "text/plain" : NULL, body, body ? strlen(body) : 0, &answer, failure);
  free(asked);
  if (!answered) return false;
  handler_string_t text;
  sandbar_format(&text, "%d %.*s", answer.status, (int)answer.body.len, (char *)answer.body.ptr);
  sandbar_handler_http_response_free(&answer);
  *outputs = (handler_list_output_t){0};
  sandbar_message(outputs, "did/ask", "text/plain", text.ptr, text.len);
  handler_string_free(&text);
  return true;
}
