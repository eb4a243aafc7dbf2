// Reads what BraveJIG's USB router sends of its sensors. What it does is told in README.md.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../guest-sdk/sources/c/sandbar.h"

// Little-endian, as all of the protocol is. Callers have checked the length.
static uint32_t number(const uint8_t *at, size_t size) {
  uint32_t value = 0;
  while (size-- > 0) value = value << 8 | at[size];
  return value;
}

static float real(const uint8_t *at) {
  uint32_t bits = number(at, 4);
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// Text that grows. JSON has no word for numbers that are none.
typedef struct {
  char *text;
  size_t length, room;
} text_t;

__attribute__((format(printf, 2, 3))) static void add(text_t *text, const char *format, ...) {
  for (;;) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text->text + text->length, text->room - text->length, format, arguments);
    va_end(arguments);
    if (length < 0) abort();
    if (text->length + (size_t)length < text->room) {
      text->length += (size_t)length;
      return;
    }
    text->room = (text->room + (size_t)length) * 2;
    text->text = realloc(text->text, text->room);
    if (text->text == NULL) abort();
  }
}

static void add_real(text_t *text, const char *name, float value) {
  if (isfinite(value)) add(text, "\"%s\":%.7g", name, (double)value);
  else add(text, "\"%s\":null", name);
}

// One sample, as the fields of a JSON object.
static void illuminance(text_t *text, const uint8_t *at) { add_real(text, "lux", real(at)); }

static void acceleration(text_t *text, const uint8_t *at) {
  add_real(text, "x_mg", real(at));
  add(text, ",");
  add_real(text, "y_mg", real(at + 4));
  add(text, ",");
  add_real(text, "z_mg", real(at + 8));
}

static void climate(text_t *text, const uint8_t *at) {
  add_real(text, "celsius", real(at));
  add(text, ",");
  add_real(text, "humidity", real(at + 4));
}

static void pressure(text_t *text, const uint8_t *at) { add_real(text, "hpa", real(at)); }

static void distance(text_t *text, const uint8_t *at) { add(text, "\"mm\":%u", (unsigned)number(at, 2)); }

static void contacts(text_t *text, const uint8_t *at) {
  add(text, "\"contact_1\":%u,\"contact_2\":%u,\"count_1\":%u,\"total_1\":%u,\"count_2\":%u,\"total_2\":%u", (unsigned)at[0],
      (unsigned)at[1], (unsigned)number(at + 2, 2), (unsigned)number(at + 4, 4), (unsigned)number(at + 8, 2),
      (unsigned)number(at + 10, 4));
}

static void outputs_of(text_t *text, const uint8_t *at) {
  add(text, "\"output_1\":%u,\"output_2\":%u", (unsigned)at[0], (unsigned)at[1]);
}

static const struct sensor {
  uint16_t id;
  const char *name;
  size_t size;
  void (*show)(text_t *, const uint8_t *);
} SENSORS[] = {
    {0x0121, "illuminance", 4, illuminance}, {0x0122, "acceleration", 12, acceleration}, {0x0123, "climate", 8, climate},
    {0x0124, "pressure", 4, pressure},       {0x0125, "distance", 2, distance},          {0x0126, "dry-contact", 14, contacts},
    {0x0127, "wet-contact", 14, contacts},   {0x0128, "contact-output", 2, outputs_of},
};

bool exports_handler_configure(handler_string_t *refusal) {
  (void)refusal;
  return true;
}

// The frame: 01 00, length u16, time u32, device 8, sensor u16, rssi i8, order u16; then battery u8, sampling u8,
// time u32, count u16, and the samples.
enum { HEADER = 21, DATA = 8 };

static bool decode(const uint8_t *frame, size_t length, handler_list_output_t *outputs, handler_failure_t *failure) {
  if (length < 2 || frame[0] != 1 || frame[1] != 0) return sandbar_reject(failure, "no uplink: it does not begin with 01 00");
  if (length < HEADER) return sandbar_reject(failure, "the header has %zu bytes of %d", length, HEADER);
  size_t data = number(frame + 2, 2);
  if (length != HEADER + data) return sandbar_reject(failure, "%zu bytes of data are told, %zu are there", data, length - HEADER);
  uint16_t id = (uint16_t)number(frame + 16, 2);
  const struct sensor *sensor = NULL;
  for (size_t i = 0; i < sizeof SENSORS / sizeof *SENSORS; i++)
    if (SENSORS[i].id == id) sensor = &SENSORS[i];
  if (sensor == NULL) return sandbar_reject(failure, "sensor %04x is not known", (unsigned)id);
  if (data < DATA) return sandbar_reject(failure, "the data has %zu bytes, at least %d are needed", data, DATA);
  const uint8_t *at = frame + HEADER;
  size_t count = number(at + 6, 2);
  if (data != DATA + count * sensor->size)
    return sandbar_reject(failure, "%zu samples of %zu bytes do not make %zu", count, sensor->size, data - DATA);

  char device[17], topic[64];
  // The least byte comes first on the wire, the greatest in the device's printed id.
  for (int i = 0; i < 8; i++) snprintf(device + 2 * i, 3, "%02x", frame[15 - i]);
  snprintf(topic, sizeof topic, "sensors/%s/%s", device, sensor->name);
  text_t text = {malloc(256), 0, 256};
  if (text.text == NULL) abort();
  add(&text, "{\"battery\":%u,\"rssi\":%d,\"order\":%u,\"time\":%u,\"samples\":[", (unsigned)at[0], (int8_t)frame[18],
      (unsigned)number(frame + 19, 2), (unsigned)number(at + 2, 4));
  for (size_t i = 0; i < count; i++) {
    add(&text, i == 0 ? "{" : ",{");
    sensor->show(&text, at + DATA + i * sensor->size);
    add(&text, "}");
  }
  add(&text, "]}");
  *outputs = (handler_list_output_t){0};
  sandbar_message(outputs, topic, "application/json", text.text, text.length);
  sandbar_handler_types_message_t *message = &outputs->ptr[0].val.message;
  message->device.is_some = true;
  handler_string_dup(&message->device.val, device);
  free(text.text);
  return true;
}

bool exports_handler_handle(handler_reading_t *reading, handler_list_output_t *outputs, handler_failure_t *failure) {
  bool decoded = decode(reading->payload.ptr, reading->payload.len, outputs, failure);
  handler_reading_free(reading);
  return decoded;
}
