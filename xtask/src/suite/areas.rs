//! The table of the suite's tests by area.

use std::fmt;

/// Areas by what names of tests have in them: the first that fits.
const AREAS: &[(&str, &[&str])] = &[
    ("encryption", &["encrypt", "sse", "_enc"]),
    ("object lock", &["object_lock"]),
    ("forms", &["post_object"]),
    ("CORS", &["cors"]),
    ("lifecycle", &["lifecycle", "_expiration"]),
    (
        "public access block, ownership",
        &["public_block", "block_public", "public_policy", "ownership", "_owner_"],
    ),
    ("policy", &["policy"]),
    ("checksums", &["checksum"]),
    ("multipart", &["multipart"]),
    ("tagging", &["tag"]),
    ("access control lists, anonymous", &["acl", "access_bucket", "anon", "grant", "public"]),
    ("versioning", &["version", "delete_marker"]),
];
const HEADERS: &str = "headers";
const REST: &str = "objects, buckets, listings, copies, conditions";

/// What the table begins with, in documents.
const HEADING: &str = "| area | passed | of |\n|---|---:|---:|\n";

/// How many tests of each area passed, of how many.
pub(super) struct Areas(Vec<(&'static str, usize, usize)>);

impl Areas {
    /// Counts tests, which are named with their file and whether they passed. The largest area comes first.
    pub(super) fn of<'a>(tests: impl Iterator<Item = (&'a str, &'a str, bool)>) -> Areas {
        let mut rows: Vec<(&'static str, usize, usize)> = Vec::new();
        for (file, test, passed) in tests {
            let area = area(file, test);
            let place = rows.iter().position(|(name, ..)| *name == area).unwrap_or_else(|| {
                rows.push((area, 0, 0));
                rows.len() - 1
            });
            rows[place].1 += usize::from(passed);
            rows[place].2 += 1;
        }
        rows.sort_by_key(|(name, _, count)| (std::cmp::Reverse(*count), *name));
        Areas(rows)
    }

    /// `document` with this in place of its table and of the sentence above it; none if it has none.
    pub(super) fn replaced(&self, document: &str) -> Option<String> {
        let (before, rest) = document.split_once(HEADING)?;
        let after = rest.find("\n\n").map_or("", |end| &rest[end..]);
        let (before, sentence) = before.trim_end().rsplit_once("\n\n")?;
        let told = sentence.split_once("** ").map_or("", |(_, told)| told);
        let (passed, count) = self.totals();
        Some(format!("{before}\n\n**{passed} of {count} pass.** {told}\n\n{}{after}", self.table()))
    }

    fn totals(&self) -> (usize, usize) {
        self.0.iter().fold((0, 0), |(passed, count), row| (passed + row.1, count + row.2))
    }

    /// The table without a line's end behind it.
    fn table(&self) -> String {
        let rows = self.0.iter().map(|(name, passed, count)| format!("| {name} | {passed} | {count} |"));
        format!("{HEADING}{}", rows.collect::<Vec<_>>().join("\n"))
    }
}

impl fmt::Display for Areas {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.table())
    }
}

fn area(file: &str, test: &str) -> &'static str {
    if file == "test_headers.py" {
        return HEADERS;
    }
    let found = AREAS.iter().find(|(_, words)| words.iter().any(|word| test.contains(word)));
    found.map_or(REST, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_by_area_and_written_into_the_document() {
        // The sentence keeps what follows its numbers, everything else stays, and what was written is found again as it is.
        let tests = [
            ("test_headers.py", "test_object_acl_x", true),
            ("test_s3.py", "test_bucket_list_a", true),
            ("test_s3.py", "test_bucket_list_b", false),
            ("test_s3.py", "test_encrypted_multipart", false),
        ];
        let areas = Areas::of(tests.into_iter());
        let document =
            format!("# T\n\nA.\n\n**1 of 9 pass.** Told so.\n\n{HEADING}| a | 1 | 2 |\n\n## B\n\nC.\n");
        let written = areas.replaced(&document).unwrap();
        let rows = "| objects, buckets, listings, copies, conditions | 1 | 2 |\n| encryption | 0 | 1 |\n| headers | 1 | 1 |";
        let expected = format!("# T\n\nA.\n\n**2 of 4 pass.** Told so.\n\n{HEADING}{rows}\n\n## B\n\nC.\n");
        assert_eq!(written, expected);
        assert_eq!(areas.replaced(&written), Some(written));
        assert_eq!(areas.replaced("# T\n"), None);
    }
}
