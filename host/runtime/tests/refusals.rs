//! What may not be uploaded, and what its author is told.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use expect_test::{Expect, expect};
use sandbar_runtime::test_components as components;
use sandbar_runtime::{ComponentError, Options, Runtime};

fn refused(wasm: &[u8]) -> ComponentError {
    support::host().runtime.load(wasm).map(|component| component.digest().to_owned()).unwrap_err()
}

fn check(wasm: &[u8], code: &str, text: &Expect) {
    let error = refused(wasm);
    assert_eq!(error.code(), code);
    text.assert_eq(&error.to_string());
}

#[test]
fn garbage_is_not_webassembly() {
    check(
        &components::garbage(),
        "not_wasm",
        &expect![[r#"this is not WebAssembly: it does not begin with `\0asm`"#]],
    );
    assert_eq!(refused(b""), ComponentError::NotWasm);
}

#[test]
fn a_core_module_is_not_a_component() {
    check(
        &components::core_module(),
        "core_module",
        &expect![
            "this is a core module, not a component: run `sandbar componentize`, or your language's tool for components"
        ],
    );
}

#[test]
fn half_a_component_is_invalid() {
    assert_eq!(refused(&components::truncated()).code(), "invalid_component");
    assert_eq!(refused(b"\0asm\x0d\0\x01\0\xff\xff\xff").code(), "invalid_component");
    assert_eq!(refused(b"\0asm").code(), "invalid_component");
}

#[test]
fn what_is_too_large_is_not_even_read() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { module_max: 1 << 20, ..Options::new(dir.path()) };
    let runtime = Runtime::new(options).unwrap();
    let Err(error) = runtime.load(&vec![0; (1 << 20) + 1]) else { panic!("accepted") };
    assert_eq!(error, ComponentError::TooLarge { size: (1 << 20) + 1, limit: 1 << 20 });
}

#[test]
fn a_missing_export_is_named() {
    check(
        &components::missing_export(),
        "missing_export",
        &expect![
            "it does not export `handle`; a handler exports `handle: func(reading: record { id: string, ingress: string, topic: string, device: option<string>, time: u64, content-type: string, attributes: list<tuple<string, string>>, payload: list<u8> }) -> result<list<variant { message(record { topic: string, device: option<string>, content-type: string, attributes: list<tuple<string, string>>, payload: list<u8> }), reply(record { topic: string, device: option<string>, content-type: string, attributes: list<tuple<string, string>>, payload: list<u8> }), command(record { device: string, name: string, content-type: string, payload: list<u8> }) }>, variant { reject(string), retry(string) }>`"
        ],
    );
}

#[test]
fn an_unknown_import_is_named_with_the_nearest() {
    check(
        &components::unknown_import(),
        "unknown_import",
        &expect![
            "it imports `sandbar:handlers/state@0.1.0`, which nobody offers here; the nearest is `sandbar:handler/state@0.1.0`"
        ],
    );
}

#[test]
fn a_wrong_type_is_shown_beside_the_right_one() {
    check(
        &components::wrong_type(),
        "wrong_export",
        &expect![[r#"
        its export `handle` has another type than a handler's.
        expected: func(reading: record { id: string, ingress: string, topic: string, device: option<string>, time: u64, content-type: string, attributes: list<tuple<string, string>>, payload: list<u8> }) -> result<list<variant { message(record { topic: string, device: option<string>, content-type: string, attributes: list<tuple<string, string>>, payload: list<u8> }), reply(record { topic: string, device: option<string>, content-type: string, attributes: list<tuple<string, string>>, payload: list<u8> }), command(record { device: string, name: string, content-type: string, payload: list<u8> }) }>, variant { reject(string), retry(string) }>
           found: func(payload: list<u8>) -> list<u8>"#]],
    );
}

#[test]
fn an_accepted_component_tells_what_it_is() {
    let host = support::host();
    let wasm = components::counter();
    let component = host.runtime.load(&wasm).unwrap();
    assert_eq!(component.size(), wasm.len());
    assert_eq!(component.digest().len(), 64);
    assert!(component.imports().iter().any(|name| name == "sandbar:handler/state@0.1.0"));
    assert_eq!(component.exports(), ["configure", "handle"]);
}
