//! Says whether a room is too hot, and counts the readings of each device.

const std = @import("std");
const sandbar = @import("sandbar");

var limit: f64 = 30;

export fn exports_handler_configure(refusal: *sandbar.handler_string_t) bool {
    return sandbar.sandbar_setting_number("limit", 30, &limit, refusal);
}

export fn exports_handler_handle(
    reading: *sandbar.handler_reading_t,
    outputs: *sandbar.handler_list_output_t,
    failure: *sandbar.handler_failure_t,
) bool {
    defer sandbar.handler_reading_free(reading);
    const payload = reading.payload.ptr[0..reading.payload.len];
    const temperature = number(payload, "temperature") orelse {
        failure.tag = sandbar.SANDBAR_HANDLER_TYPES_FAILURE_REJECT;
        sandbar.handler_string_dup(&failure.val.reject, "the payload has no number `temperature`");
        return false;
    };
    // Of this device: state belongs to the reading's key.
    var readings: u64 = 0;
    _ = sandbar.sandbar_state_get("readings", &readings, @sizeOf(u64));
    readings += 1;
    _ = sandbar.sandbar_state_set("readings", &readings, @sizeOf(u64), 0);

    var topic: [256]u8 = undefined;
    var checked: [128]u8 = undefined;
    const to = std.fmt.bufPrintSentinel(&topic, "{s}/checked", .{reading.topic.ptr[0..reading.topic.len]}, 0) catch return long(failure);
    const body = std.fmt.bufPrint(&checked, "{{\"temperature\":{d},\"hot\":{},\"readings\":{d}}}", .{
        temperature, temperature > limit, readings,
    }) catch return long(failure);
    outputs.* = .{ .ptr = null, .len = 0 };
    sandbar.sandbar_message(outputs, to, "application/json", body.ptr, body.len);
    return true;
}

fn long(failure: *sandbar.handler_failure_t) bool {
    failure.tag = sandbar.SANDBAR_HANDLER_TYPES_FAILURE_REJECT;
    sandbar.handler_string_dup(&failure.val.reject, "the topic is too long");
    return false;
}

/// The number in a field of a JSON object.
fn number(payload: []const u8, field: []const u8) ?f64 {
    var arena = std.heap.ArenaAllocator.init(std.heap.wasm_allocator);
    defer arena.deinit();
    const parsed = std.json.parseFromSliceLeaky(std.json.Value, arena.allocator(), payload, .{}) catch return null;
    if (parsed != .object) return null;
    return switch (parsed.object.get(field) orelse return null) {
        .integer => |whole| @floatFromInt(whole),
        .float => |value| value,
        else => null,
    };
}
