// Says whether a room is too hot, and counts the readings of each device.

#include <stdio.h>

#include "sandbar/sandbar.h"

static double limit;

bool exports_handler_configure(handler_string_t *refusal) {
  return sandbar_setting_number("limit", 30, &limit, refusal);
}

bool exports_handler_handle(handler_reading_t *reading, handler_list_output_t *outputs, handler_failure_t *failure) {
  double temperature;
  if (!sandbar_json_number(&reading->payload, "temperature", &temperature)) {
    handler_reading_free(reading);
    return sandbar_reject(failure, "the payload has no number `temperature`");
  }
  // Of this device: state belongs to the reading's key.
  uint64_t readings = 0;
  sandbar_state_get("readings", &readings, sizeof readings);
  readings++;
  if (!sandbar_state_set("readings", &readings, sizeof readings, 0)) return sandbar_reject(failure, "no room in the state");

  char topic[256], checked[128];
  // Cut short it would match the route's filter, and the message would come back.
  if (snprintf(topic, sizeof topic, "%.*s/checked", (int)reading->topic.len, reading->topic.ptr) >= (int)sizeof topic) {
    handler_reading_free(reading);
    return sandbar_reject(failure, "the topic is too long");
  }
  int length = snprintf(checked, sizeof checked, "{\"temperature\":%.15g,\"hot\":%s,\"readings\":%llu}", temperature,
                        temperature > limit ? "true" : "false", (unsigned long long)readings);
  *outputs = (handler_list_output_t){0};
  sandbar_message(outputs, topic, "application/json", checked, (size_t)length);
  handler_reading_free(reading);
  return true;
}
