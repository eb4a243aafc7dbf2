//! Reads numbers out of the registers that a Modbus device was asked for. What it does is told in README.md.

const std = @import("std");
const sandbar = @import("sandbar");

const Type = enum { u16, i16, u32, i32, f32, u64, i64 };

const Entry = struct {
    name: []const u8,
    register: usize,
    type: Type,
    scale: f64,
    /// The least register comes first, as some devices have it.
    swapped: bool,
};

const entries_max = 128;
var entries: [entries_max]Entry = undefined;
var count: usize = 0;
/// The setting's text, in which the names are.
var map: ?[*:0]u8 = null;

export fn exports_handler_configure(refusal: *sandbar.handler_string_t) bool {
    map = sandbar.sandbar_setting("map");
    const text = std.mem.span(map orelse return refuse(refusal, "setting `map` is missing"));
    var parts = std.mem.splitScalar(u8, text, ';');
    while (parts.next()) |part| {
        if (std.mem.trim(u8, part, " \n\t").len == 0) continue;
        if (count == entries_max) return refuse(refusal, "setting `map` has more than 128 entries");
        entries[count] = parse(part) orelse
            return refuse(refusal, "setting `map` is not `name register type scale [swapped]; …`; the types are u16, i16, u32, i32, f32, u64, i64");
        count += 1;
    }
    return if (count == 0) refuse(refusal, "setting `map` is empty") else true;
}

fn refuse(refusal: *sandbar.handler_string_t, comptime text: [:0]const u8) bool {
    sandbar.handler_string_dup(refusal, text);
    return false;
}

fn parse(part: []const u8) ?Entry {
    var words = std.mem.tokenizeAny(u8, part, " \n\t");
    const name = words.next() orelse return null;
    for (name) |c| if (c == '"' or c == '\\' or c < ' ') return null;
    const register = std.fmt.parseInt(usize, words.next() orelse return null, 10) catch return null;
    const kind = std.meta.stringToEnum(Type, words.next() orelse return null) orelse return null;
    const scale = std.fmt.parseFloat(f64, words.next() orelse "1") catch return null;
    const order = words.next();
    if (order != null and !std.mem.eql(u8, order.?, "swapped")) return null;
    if (words.next() != null or register > 65535) return null;
    return .{ .name = name, .register = register, .type = kind, .scale = scale, .swapped = order != null };
}

export fn exports_handler_handle(
    reading: *sandbar.handler_reading_t,
    outputs: *sandbar.handler_list_output_t,
    failure: *sandbar.handler_failure_t,
) bool {
    defer sandbar.handler_reading_free(reading);
    const payload = reading.payload.ptr[0..reading.payload.len];
    if (payload.len % 2 != 0) return reject(failure, "{d} bytes are half a register too many", .{payload.len});

    var topic_buffer: [512]u8 = undefined;
    var body: [16384]u8 = undefined;
    const topic = std.fmt.bufPrintSentinel(&topic_buffer, "{s}/values", .{reading.topic.ptr[0..reading.topic.len]}, 0) catch
        return reject(failure, "the topic is too long", .{});
    var used: usize = 0;
    for (entries[0..count], 0..) |entry, index| {
        const value = read(entry, payload) orelse
            return reject(failure, "`{s}` is in register {d}, and there are {d}", .{ entry.name, entry.register, payload.len / 2 });
        const lead = if (index == 0) "{" else ",";
        const written = if (std.math.isFinite(value))
            std.fmt.bufPrint(body[used..], "{s}\"{s}\":{d}", .{ lead, entry.name, value })
        else
            std.fmt.bufPrint(body[used..], "{s}\"{s}\":null", .{ lead, entry.name });
        used += (written catch return reject(failure, "the values are too many", .{})).len;
    }
    if (used == body.len) return reject(failure, "the values are too many", .{});
    body[used] = '}';
    outputs.* = .{ .ptr = null, .len = 0 };
    sandbar.sandbar_message(outputs, topic, "application/json", &body, used + 1);
    return true;
}

fn reject(failure: *sandbar.handler_failure_t, comptime format: []const u8, arguments: anytype) bool {
    var buffer: [512]u8 = undefined;
    const text = std.fmt.bufPrintSentinel(&buffer, format, arguments, 0) catch "the payload does not fit the map";
    failure.tag = sandbar.SANDBAR_HANDLER_TYPES_FAILURE_REJECT;
    sandbar.handler_string_dup(&failure.val.reject, text);
    return false;
}

/// Null where the payload ends before the value does.
fn read(entry: Entry, payload: []const u8) ?f64 {
    const registers: usize = switch (entry.type) {
        .u16, .i16 => 1,
        .u32, .i32, .f32 => 2,
        .u64, .i64 => 4,
    };
    if ((entry.register + registers) * 2 > payload.len) return null;
    var bits: u64 = 0;
    for (0..registers) |index| {
        const at = entry.register + if (entry.swapped) registers - 1 - index else index;
        bits = bits << 16 | std.mem.readInt(u16, payload[at * 2 ..][0..2], .big);
    }
    const raw: f64 = switch (entry.type) {
        .u16, .u32, .u64 => @floatFromInt(bits),
        .i16 => @floatFromInt(@as(i16, @bitCast(@as(u16, @truncate(bits))))),
        .i32 => @floatFromInt(@as(i32, @bitCast(@as(u32, @truncate(bits))))),
        .i64 => @floatFromInt(@as(i64, @bitCast(bits))),
        .f32 => @as(f32, @bitCast(@as(u32, @truncate(bits)))),
    };
    return tidy(raw * entry.scale);
}

/// Without the digits that a decimal scale leaves: 2301 × 0.1 is 230.1.
fn tidy(value: f64) f64 {
    if (!std.math.isFinite(value) or @abs(value) > 1e9) return value;
    return @round(value * 1e6) / 1e6;
}
