//! Types of functions as text, near to WIT, for those who read why a component was refused.

use std::fmt::Write;

use wasmtime::component::types::{ComponentFunc, Type};

/// `func(reading: record { id: string, … }) -> result<…>`
pub(crate) fn describe(function: &ComponentFunc) -> String {
    let mut text = String::from(if function.async_() { "async func(" } else { "func(" });
    list(&mut text, function.params(), |text, (name, ty)| {
        text.push_str(name);
        text.push_str(": ");
        write_type(text, &ty);
    });
    text.push(')');
    for result in function.results() {
        text.push_str(" -> ");
        write_type(&mut text, &result);
    }
    text
}

fn write_type(text: &mut String, ty: &Type) {
    match ty {
        Type::List(ty) => wrap(text, "list<", &ty.ty()),
        Type::Option(ty) => wrap(text, "option<", &ty.ty()),
        Type::Tuple(ty) => {
            text.push_str("tuple<");
            list(text, ty.types(), |text, ty| write_type(text, &ty));
            text.push('>');
        }
        Type::Record(ty) => {
            text.push_str("record { ");
            list(text, ty.fields(), |text, field| {
                text.push_str(field.name);
                text.push_str(": ");
                write_type(text, &field.ty);
            });
            text.push_str(" }");
        }
        Type::Variant(ty) => {
            text.push_str("variant { ");
            list(text, ty.cases(), |text, case| {
                text.push_str(case.name);
                if let Some(ty) = case.ty {
                    wrap_round(text, &ty);
                }
            });
            text.push_str(" }");
        }
        Type::Enum(ty) => names(text, "enum", ty.names()),
        Type::Flags(ty) => names(text, "flags", ty.names()),
        Type::Result(ty) => write_result(text, ty.ok(), ty.err()),
        plain => text.push_str(plain_name(plain)),
    }
}

fn plain_name(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::S8 => "s8",
        Type::U8 => "u8",
        Type::S16 => "s16",
        Type::U16 => "u16",
        Type::S32 => "s32",
        Type::U32 => "u32",
        Type::S64 => "s64",
        Type::U64 => "u64",
        Type::Float32 => "f32",
        Type::Float64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::Own(_) => "own<…>",
        Type::Borrow(_) => "borrow<…>",
        Type::Future(_) => "future<…>",
        Type::Stream(_) => "stream<…>",
        _ => "…",
    }
}

fn write_result(text: &mut String, ok: Option<Type>, err: Option<Type>) {
    match (ok, err) {
        (None, None) => text.push_str("result"),
        (Some(ok), None) => wrap(text, "result<", &ok),
        (ok, Some(err)) => {
            text.push_str("result<");
            match ok {
                Some(ok) => write_type(text, &ok),
                None => text.push('_'),
            }
            text.push_str(", ");
            write_type(text, &err);
            text.push('>');
        }
    }
}

fn wrap(text: &mut String, open: &str, ty: &Type) {
    text.push_str(open);
    write_type(text, ty);
    text.push('>');
}

fn wrap_round(text: &mut String, ty: &Type) {
    text.push('(');
    write_type(text, ty);
    text.push(')');
}

fn names<'a>(text: &mut String, kind: &str, names: impl Iterator<Item = &'a str>) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{kind} {{ ");
    list(text, names, |text, name| text.push_str(name));
    text.push_str(" }");
}

fn list<T>(text: &mut String, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut String, T)) {
    for (index, item) in items.enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        write(text, item);
    }
}
