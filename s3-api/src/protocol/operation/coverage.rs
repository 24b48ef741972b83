//! The table of operations in `s3-api/docs/coverage.md`, compared with what is done.

use super::{OperationName, Request, Resource, Routed, request::Input};
use crate::protocol::{error::ErrorCode, http::Headers};

const TABLE: &str = include_str!("../../../docs/coverage.md");

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
    let input = Input { routed: &routed, headers: &Headers::default(), document: b"" };
    match Request::parse(&routed, input.headers, input.document) {
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

#[test]
fn the_table_says_what_is_so() {
    // Every operation once, in its order; its state as the library has it; and a file that is there.
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let lines = lines();
    let names: Vec<&str> = lines.iter().map(|(name, ..)| *name).collect();
    let expected: Vec<&str> = OperationName::ALL.iter().map(|operation| operation.as_str()).collect();
    assert_eq!(names, expected);
    for (&operation, (name, told, shown)) in OperationName::ALL.iter().zip(lines) {
        assert_eq!(told.split(' ').next(), Some(state(operation)), "{name}");
        let path = shown.trim_matches('`');
        assert!(root.join(path).is_file(), "{name}: there is no {path}");
    }
}
