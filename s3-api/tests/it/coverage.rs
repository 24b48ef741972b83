//! The table of operations in `s3-api/docs/coverage.md`, made of what is done.
//!
//! `cargo xtask coverage --write` writes it; the test here says whether what is there is what would be written.

use crossdock_s3::protocol::auth::PayloadMode;
use crossdock_s3::protocol::error::ErrorCode;
use crossdock_s3::protocol::http::Headers;
use crossdock_s3::protocol::operation::{KeepBucketSetting, OperationName, Request, Resource, Routed};
use crossdock_s3::protocol::reply::{Reply, ReplyBody, default_configuration};
use std::collections::BTreeMap;

const TABLE: &str = include_str!("../../docs/coverage.md");

/// The state of each operation that the table names, and where it is shown.
fn lines() -> Vec<(&'static str, &'static str, &'static str)> {
    let rows = TABLE.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.filter_map(|row| match row.split(" | ").collect::<Vec<_>>().as_slice() {
        [name, state, shown] if *name != "Operation" => Some((*name, *state, *shown)),
        _ => None,
    })
    .collect()
}

/// What a request for `operation` with nothing in it comes to.
fn state(operation: OperationName) -> String {
    if let Some(newer) = OperationName::ALL.iter().find(|newer| newer.legacy_name() == Some(operation)) {
        return format!("as {}", newer.as_str());
    }
    if KeepBucketSetting::is_set_by(operation) {
        return "only as it is".to_owned();
    }
    match default_configuration(operation) {
        Some(Err(error)) => return format!("always {}", error.status()),
        Some(Ok(Reply { body: ReplyBody::Bytes(document), .. })) => {
            let is_empty = !String::from_utf8_lossy(&document).contains("<Payer>");
            return if is_empty { "always empty" } else { "always the owner" }.to_owned();
        }
        Some(Ok(_)) | None => {}
    }
    let routed = Routed {
        operation,
        resource: Resource::Object { bucket: "bucket".into(), key: "key".into() },
        query: Default::default(),
    };
    match Request::parse(&routed, &Headers::default(), PayloadMode::Unsigned, b"") {
        // Its fields are read from a form, which is no document.
        Err(error) if error.code == ErrorCode::NotImplemented && operation != OperationName::PostObject => {
            "501".to_owned()
        }
        _ => "served".to_owned(),
    }
}

/// The body of a test of this name, down to the next one.
fn body<'a>(source: &'a str, test: &str) -> Option<&'a str> {
    let (_, rest) = source.split_once(&format!("\ndef {test}("))?;
    Some(rest.split_once("\n\n\n").map_or(rest, |(body, _)| body))
}

/// What an SDK for Python calls an operation: `GetBucketAcl` is `get_bucket_acl`.
fn method_name(operation: &str) -> String {
    let mut name = String::new();
    for character in operation.replace("ListObjectsV2", "ListObjects_v2").chars() {
        if character.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(character.to_ascii_lowercase());
    }
    name
}

/// The clients' tests: the name of each file, and what is in it.
fn sources() -> BTreeMap<String, String> {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/tests/clients");
    let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let tests = files.filter(|path| path.extension().is_some_and(|extension| extension == "py"));
    tests
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .filter(|(name, _)| name.starts_with("test_"))
        .collect()
}

/// Whether a test with this body asks for `operation`, of which that is told.
fn calls(operation: OperationName, state: &str, body: &str) -> bool {
    let name = method_name(state.strip_prefix("as ").unwrap_or(operation.as_str()));
    // Those that are refused are named by the table itself; a form is no method of an SDK; and pages are asked for by name.
    match state {
        "501" => body.contains("_make_api_call"),
        _ if operation == OperationName::PostObject => body.contains("\"POST\""),
        _ => {
            body.match_indices(&format!(".{name}")).any(|(at, found)| {
                let behind = body[at + found.len()..].chars().next();
                behind.is_none_or(|character| !character.is_alphanumeric() && character != '_')
            }) || (state == "served" && body.contains("get_paginator(operation)"))
                || upload_helper(operation, body)
        }
    }
}

/// The table as it has to be: names and states as the library has them. What shows an operation stays if it does, and else is the first
/// test that asks for it.
fn made() -> String {
    let (sources, before) = (sources(), lines());
    let mut table = String::from("| Operation | State | Shown by |\n|---|---|---|\n");
    for &operation in OperationName::ALL {
        let name = operation.as_str();
        let state = state(operation);
        let of_older = OperationName::ALL.iter().find(|newer| newer.legacy_name() == Some(operation));
        let asked = of_older.map_or(state.clone(), |newer| self::state(*newer));
        let told = if asked == "501" { &asked } else { &state };
        let shows = |file: &str, test: &str| {
            let body = sources.get(file).and_then(|source| body(source, test));
            body.is_some_and(|body| calls(operation, told, body))
        };
        let kept =
            before.iter().find(|(named, ..)| *named == name).map(|(.., shown)| shown.trim_matches('`'));
        let kept = kept.filter(|shown| shown.split_once("::").is_some_and(|(file, test)| shows(file, test)));
        let first = || {
            let tests = sources.iter().flat_map(|(file, source)| {
                let names = source.split("\ndef ").skip(1).filter_map(|rest| rest.split_once('('));
                names.map(move |(test, _)| (file, test))
            });
            let shown =
                tests.filter(|(_, test)| test.starts_with("test_")).find(|(file, test)| shows(file, test));
            shown.map(|(file, test)| format!("{file}::{test}"))
        };
        let shown =
            kept.map(str::to_owned).or_else(first).unwrap_or_else(|| panic!("no test asks for {name}"));
        table += &format!("| {name} | {state} | `{shown}` |\n");
    }
    table
}

#[test]
fn the_table_says_what_is_so() {
    // Every operation once, in its order; its state as the library has it; and a test that is there and asks for it.
    let (before, _) = TABLE.split_once("| Operation |").unwrap();
    let document = format!("{before}{}", made());
    if std::env::var_os("CROSSDOCK_WRITE_TABLES").is_some() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/coverage.md");
        std::fs::write(path, document).unwrap();
        return;
    }
    for (there, made) in TABLE.lines().zip(document.lines()) {
        assert_eq!(there, made, "`cargo xtask coverage --write` makes the table anew");
    }
    assert_eq!(TABLE.len(), document.len(), "`cargo xtask coverage --write` makes the table anew");
}

/// Uploads are begun by a function that several tests share.
fn upload_helper(operation: OperationName, body: &str) -> bool {
    matches!(operation, OperationName::CreateMultipartUpload | OperationName::UploadPart)
        && body.contains("upload_parts(")
}
