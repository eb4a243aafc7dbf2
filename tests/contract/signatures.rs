//! `wit/` as lines that change exactly when what a component sees does: no comments, no layout, and a name
//! wherever a type has one.

use std::path::Path;

use anyhow::Result;
use wit_parser::{
    Function, FunctionKind, Handle, Interface, InterfaceId, Resolve, Type, TypeDefKind, TypeId, TypeOwner,
    WorldItem, WorldKey,
};

pub(crate) struct Contract {
    /// Of the package `sandbar:handler`.
    pub(crate) version: String,
    /// Sorted.
    pub(crate) lines: Vec<String>,
}

pub(crate) fn read(folder: &Path) -> Result<Contract> {
    let mut resolve = Resolve::new();
    let (package, _) = resolve.push_dir(folder)?;
    let version =
        resolve.packages[package].name.version.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut lines = Vec::new();
    for (id, interface) in resolve.interfaces.iter() {
        interface_lines(&resolve, id, interface, &mut lines);
    }
    for (_, world) in resolve.worlds.iter().filter(|(_, world)| world.package == Some(package)) {
        for (direction, items) in [("import", &world.imports), ("export", &world.exports)] {
            for (key, item) in items {
                lines.push(format!("world {}: {direction} {}", world.name, world_item(&resolve, key, item)));
            }
        }
    }
    lines.sort();
    Ok(Contract { version, lines })
}

fn interface_lines(resolve: &Resolve, id: InterfaceId, interface: &Interface, lines: &mut Vec<String>) {
    let name = interface_name(resolve, id);
    for (type_name, id) in &interface.types {
        lines.push(format!("{name}: {type_name} = {}", definition(resolve, *id)));
    }
    for function in interface.functions.values() {
        lines.push(format!("{name}: {}", signature(resolve, function)));
    }
}

/// Without the version of the package itself: the file's name has it.
fn interface_name(resolve: &Resolve, id: InterfaceId) -> String {
    let full = resolve.id_of(id).unwrap_or_else(|| "inline".to_owned());
    match full.strip_prefix("sandbar:handler/") {
        Some(own) => own.split('@').next().unwrap_or(own).to_owned(),
        None => full,
    }
}

fn world_item(resolve: &Resolve, key: &WorldKey, item: &WorldItem) -> String {
    let name = match key {
        WorldKey::Name(name) => name.clone(),
        WorldKey::Interface(id) => interface_name(resolve, *id),
    };
    match item {
        WorldItem::Interface { .. } => format!("interface {name}"),
        WorldItem::Function(function) => signature(resolve, function),
        WorldItem::Type { id, .. } => format!("type {name} = {}", definition(resolve, *id)),
    }
}

fn signature(resolve: &Resolve, function: &Function) -> String {
    let kind = match function.kind {
        FunctionKind::AsyncFreestanding | FunctionKind::AsyncMethod(_) | FunctionKind::AsyncStatic(_) => {
            "async func"
        }
        _ => "func",
    };
    let parameters = function.params.iter().map(|p| format!("{}: {}", p.name, name_of(resolve, &p.ty)));
    let parameters = parameters.collect::<Vec<_>>().join(", ");
    match &function.result {
        Some(result) => format!("{}: {kind}({parameters}) -> {}", function.name, name_of(resolve, result)),
        None => format!("{}: {kind}({parameters})", function.name),
    }
}

/// A type where it is used: its name if it has one.
fn name_of(resolve: &Resolve, ty: &Type) -> String {
    let Type::Id(id) = ty else { return primitive(ty).to_owned() };
    let id = original(resolve, *id);
    let definition_of = &resolve.types[id];
    match (&definition_of.name, definition_of.owner) {
        (Some(name), TypeOwner::Interface(owner)) => format!("{}.{name}", interface_name(resolve, owner)),
        (Some(name), _) => name.clone(),
        (None, _) => definition(resolve, id),
    }
}

/// What `use` made another name for.
fn original(resolve: &Resolve, mut id: TypeId) -> TypeId {
    while let TypeDefKind::Type(Type::Id(next)) = resolve.types[id].kind {
        id = next;
    }
    id
}

/// What a type consists of.
fn definition(resolve: &Resolve, id: TypeId) -> String {
    let name = |ty: &Type| name_of(resolve, ty);
    let optional = |ty: &Option<Type>| ty.as_ref().map_or("_".to_owned(), name);
    let list = |items: Vec<String>| items.join(", ");
    match &resolve.types[id].kind {
        TypeDefKind::Record(record) => {
            let fields = record.fields.iter().map(|field| format!("{}: {}", field.name, name(&field.ty)));
            format!("record {{ {} }}", list(fields.collect()))
        }
        TypeDefKind::Variant(variant) => {
            let cases = variant.cases.iter().map(|case| match &case.ty {
                Some(ty) => format!("{}({})", case.name, name(ty)),
                None => case.name.clone(),
            });
            format!("variant {{ {} }}", list(cases.collect()))
        }
        TypeDefKind::Enum(cases) => {
            format!("enum {{ {} }}", list(cases.cases.iter().map(|case| case.name.clone()).collect()))
        }
        TypeDefKind::Flags(flags) => {
            format!("flags {{ {} }}", list(flags.flags.iter().map(|flag| flag.name.clone()).collect()))
        }
        TypeDefKind::Tuple(tuple) => format!("tuple<{}>", list(tuple.types.iter().map(name).collect())),
        TypeDefKind::Result(result) => format!("result<{}, {}>", optional(&result.ok), optional(&result.err)),
        TypeDefKind::Option(ty) => format!("option<{}>", name(ty)),
        TypeDefKind::List(ty) => format!("list<{}>", name(ty)),
        TypeDefKind::FixedLengthList(ty, len) => format!("list<{}, {len}>", name(ty)),
        TypeDefKind::Map(key, value) => format!("map<{}, {}>", name(key), name(value)),
        TypeDefKind::Future(ty) => format!("future<{}>", optional(ty)),
        TypeDefKind::Stream(ty) => format!("stream<{}>", optional(ty)),
        TypeDefKind::Handle(Handle::Own(id)) => format!("own<{}>", name(&Type::Id(*id))),
        TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", name(&Type::Id(*id))),
        TypeDefKind::Type(ty) => name(ty),
        TypeDefKind::Resource => "resource".to_owned(),
        TypeDefKind::Unknown => "unknown".to_owned(),
    }
}

fn primitive(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U16 => "u16",
        Type::U32 => "u32",
        Type::U64 => "u64",
        Type::S8 => "s8",
        Type::S16 => "s16",
        Type::S32 => "s32",
        Type::S64 => "s64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::ErrorContext => "error-context",
        Type::Id(_) => "id",
    }
}
