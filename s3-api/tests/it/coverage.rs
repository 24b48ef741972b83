//! The table of operations in `s3-api/docs/coverage.md`, compared with what is done.

use crossdock_s3::protocol::auth::PayloadMode;
use crossdock_s3::protocol::error::ErrorCode;
use crossdock_s3::protocol::http::Headers;
use crossdock_s3::protocol::operation::{OperationName, Request, Resource, Routed};
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
fn state(operation: OperationName) -> &'static str {
    let routed = Routed {
        operation,
        resource: Resource::Object { bucket: "bucket".into(), key: "key".into() },
        query: Default::default(),
    };
    let legacy = OperationName::ALL.iter().any(|newer| newer.legacy_name() == Some(operation));
    match Request::parse(&routed, &Headers::default(), PayloadMode::Unsigned, b"") {
        _ if legacy => "as",
        Ok(Request::GetBucketSetting(_))
            if !matches!(operation, OperationName::GetBucketAcl | OperationName::GetBucketPolicyStatus) =>
        {
            "always"
        }
        // Its fields are read from a form, which is no document.
        Err(error) if error.code == ErrorCode::NotImplemented && operation != OperationName::PostObject => {
            "501"
        }
        _ => "served",
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

#[test]
fn the_table_says_what_is_so() {
    // Every operation once, in its order; its state as the library has it; and a test that is there and calls it.
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/tests/clients");
    let lines = lines();
    let names: Vec<&str> = lines.iter().map(|(name, ..)| *name).collect();
    let expected: Vec<&str> = OperationName::ALL.iter().map(|operation| operation.as_str()).collect();
    assert_eq!(names, expected);
    let states: BTreeMap<&str, &str> = lines.iter().map(|(name, told, _)| (*name, *told)).collect();
    for (&operation, (name, told, shown)) in OperationName::ALL.iter().zip(lines) {
        assert_eq!(told.split(' ').next(), Some(state(operation)), "{name}");
        let (file, test) =
            shown.trim_matches('`').split_once("::").unwrap_or_else(|| panic!("{name}: {shown}"));
        let source =
            std::fs::read_to_string(directory.join(file)).unwrap_or_else(|_| panic!("{name}: no {file}"));
        let body = body(&source, test).unwrap_or_else(|| panic!("{name}: {file} has no {test}"));
        let newer = told.strip_prefix("as ").unwrap_or(name);
        // Those that are refused are named by the table itself; a form is no method of an SDK; and pages are asked for by name.
        let is_called = match states[newer] {
            "501" => body.contains("_make_api_call"),
            _ if operation == OperationName::PostObject => body.contains("\"POST\""),
            _ => {
                body.contains(&format!(".{}", method_name(newer)))
                    || body.contains("get_paginator(operation)")
            }
        };
        assert!(
            is_called || upload_helper(operation, body),
            "{name}: {test} does not call {}",
            method_name(newer)
        );
    }
}

/// Uploads are begun by a function that several tests share.
fn upload_helper(operation: OperationName, body: &str) -> bool {
    matches!(operation, OperationName::CreateMultipartUpload | OperationName::UploadPart)
        && body.contains("upload_parts(")
}
