//! Uploads from browsers: the form, its policy, its signature and its file.
//!
//! * In whatever pieces a form arrives, it has the same fields and the same file.
//! * A policy allows what it names and nothing else.

use crossdock_s3::protocol::form::{
    FIELDS_BYTES_MAX, FileScanner, FormHead, FormPolicy, FormSignature, boundary_of,
};

/// Tries one input: a `Content-Type` up to the first line end, then a body.
pub fn run(bytes: &[u8]) {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return };
    let (kind, body) = (bytes.get(..end).unwrap_or_default(), bytes.get(end + 2..).unwrap_or_default());
    let Ok(boundary) = boundary_of(std::str::from_utf8(kind).ok()) else { return };
    let Ok(Some(form)) = FormHead::parse(body, &boundary) else { return };
    assert!(form.head_bytes <= body.len(), "the fields lie inside the body");
    let head = body.get(..form.head_bytes).unwrap_or_default();
    assert_eq!(
        FormHead::parse(head, &boundary),
        Ok(Some(form.clone())),
        "what follows the fields does not change them"
    );
    // Every byte where pieces may end is too many for forms that are mostly one field.
    let step = head.len() / 64 + 1;
    for cut in (0..head.len()).step_by(step) {
        let part = FormHead::parse(head.get(..cut).unwrap_or_default(), &boundary);
        assert!(
            cut > FIELDS_BYTES_MAX || part == Ok(None),
            "a part of a form is taken for a whole one: {part:?}"
        );
    }
    file(body.get(form.head_bytes..).unwrap_or_default(), &boundary);
    let _ = FormSignature::of(&form).map(|signature| signature.map(|one| one.verify("secret", "policy")));
    if let Some(Ok(policy)) = form.field("policy").map(FormPolicy::parse) {
        policy_of(&policy, form);
    }
}

/// The file's bytes, from the whole and from pieces.
fn file(rest: &[u8], boundary: &str) {
    let found = |size: usize| {
        let (mut scanner, mut content) = (FileScanner::new(boundary), Vec::new());
        rest.chunks(size.max(1)).for_each(|piece| scanner.push(piece, &mut content));
        (scanner.is_finished(), content)
    };
    let whole = found(rest.len());
    assert!(whole.1.len() <= rest.len(), "a file is no longer than what it came in");
    for size in [1, 7, boundary.len() + 3] {
        let pieces = found(size);
        assert_eq!(pieces.0, whole.0, "whether a file ends does not depend on its pieces");
        assert!(!whole.0 || pieces.1 == whole.1, "nor does what it holds");
    }
}

fn policy_of(policy: &FormPolicy, mut form: FormHead) {
    let key = form.field("key").unwrap_or_default().to_owned();
    if policy.check(&form, "bucket", &key, 0).is_err() {
        return;
    }
    assert!(policy.check(&form, "bucket", &key, u64::MAX).is_err(), "a policy ends");
    form.fields.push(("x-amz-meta-stray".into(), "1".into()));
    assert!(
        policy.check(&form, "bucket", &key, 0).is_err(),
        "a field that the policy does not name is allowed"
    );
}

/// Forms as browsers send them: signed in both ways, unsigned, with odd names and boundaries.
pub fn seeds() -> Vec<Vec<u8>> {
    // {"expiration":"2999-01-01T00:00:00Z","conditions":[{"bucket":"bucket"},["starts-with","$key","in/"],["content-length-range",1,4]]}
    let policy = "eyJleHBpcmF0aW9uIjoiMjk5OS0wMS0wMVQwMDowMDowMFoiLCJjb25kaXRpb25zIjpbeyJidWNrZXQiOiJidWNrZXQifSxbInN0YXJ0cy13aXRoIiwiJGtleSIsImluLyJdLFsiY29udGVudC1sZW5ndGgtcmFuZ2UiLDEsNF1dfQ==";
    let v2 = [("key", "in/${filename}"), ("AWSAccessKeyId", "k"), ("policy", policy), ("signature", "c2ln")];
    let v4 = [
        ("Key", "in/a"),
        ("policy", policy),
        ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
        ("x-amz-credential", "k/20300101/us-east-1/s3/aws4_request"),
        ("x-amz-date", "20300101T000000Z"),
        ("x-amz-signature", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
    ];
    let unsigned = [("key", "a\r\nb"), ("Content-Type", "text/plain"), ("success_action_status", "201")];
    vec![
        form("b", &v2, "f.txt", "file"),
        form("----WebKitFormBoundary7MA4YWxkTrZu0gW", &v4, "C:\\dir\\a \\\"q\\\".txt", "1\r\n--b\r\n"),
        form("'()+_,-./:=?", &unsigned, "", ""),
    ]
}

fn form(boundary: &str, fields: &[(&str, &str)], filename: &str, file: &str) -> Vec<u8> {
    let mut text = format!("multipart/form-data; boundary=\"{boundary}\"\r\n");
    for (name, value) in fields {
        text +=
            &format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    text += &format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{filename}\"\r\n"
    );
    text += &format!("Content-Type: text/plain\r\n\r\n{file}\r\n--{boundary}--\r\n");
    text.into_bytes()
}
