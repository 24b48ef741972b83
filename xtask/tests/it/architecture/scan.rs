//! Reads Rust sources the way the rules need them: code only, with the lines where they were.
//!
//! Comments and the insides of string and character literals become spaces, so that a word in a comment is no
//! breach. Line numbers do not move.

use std::path::{Path, PathBuf};

/// A source file: where it lies, and its code without comments and literals.
pub(crate) struct Source {
    /// Relative to the root of the workspace, with `/` between the parts.
    pub(crate) path: String,
    /// The code, comments and literals blanked.
    pub(crate) code: String,
    /// How many lines the file has.
    pub(crate) line_count: usize,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), code: blank(text), line_count: text.lines().count() }
    }

    /// The code without the modules that are compiled for tests alone.
    pub(crate) fn code_outside_tests(&self) -> String {
        without_test_modules(&self.code)
    }
}

/// Every `.rs` file below the given directories of the workspace, in order of path.
pub(crate) fn sources(root: &Path, directories: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    for directory in directories {
        collect(&root.join(directory), &mut paths);
    }
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).expect("a source file is UTF-8 text");
            let relative = path.strip_prefix(root).expect("collected below the root");
            Source::new(&relative.to_string_lossy(), &text)
        })
        .collect()
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.expect("a directory of the tree can be listed").path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// Each line of `code` that holds `word` with nothing of a name before or after it, counted from 1.
pub(crate) fn lines_with(code: &str, word: &str) -> Vec<usize> {
    code.lines().enumerate().filter(|(_, line)| holds_word(line, word)).map(|(index, _)| index + 1).collect()
}

fn holds_word(line: &str, word: &str) -> bool {
    let of_a_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line.get(..start).and_then(|text| text.chars().next_back());
        let after = line.get(start + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(of_a_name) && !after.is_some_and(of_a_name)
    })
}

/// Replaces comments and the insides of literals by spaces; line ends stay.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut index = 0;
    while let Some(&c) = chars.get(index) {
        let next = chars.get(index + 1).copied();
        let end = match (c, next) {
            ('/', Some('/')) => end_of_line(&chars, index),
            ('/', Some('*')) => end_of_block_comment(&chars, index),
            ('"', _) => end_of_string(&chars, index),
            ('r', Some('"' | '#')) if !inside_a_name(&chars, index) => match end_of_raw_string(&chars, index)
            {
                Some(end) => end,
                None => index,
            },
            ('\'', _) => end_of_character(&chars, index).unwrap_or(index),
            _ => index,
        };
        if end == index {
            code.push(c);
            index += 1;
        } else {
            code.extend(
                chars.get(index..end).unwrap_or_default().iter().map(|&c| if c == '\n' { c } else { ' ' }),
            );
            index = end;
        }
    }
    code
}

fn inside_a_name(chars: &[char], index: usize) -> bool {
    // `br"…"` is a raw string too; any other letter before the `r` makes it part of a name.
    let before = index.checked_sub(1).and_then(|before| chars.get(before));
    before.is_some_and(|&c| (c.is_alphanumeric() && c != 'b') || c == '_')
}

fn end_of_line(chars: &[char], start: usize) -> usize {
    let rest = chars.get(start..).unwrap_or_default();
    start + rest.iter().position(|&c| c == '\n').unwrap_or(rest.len())
}

fn end_of_block_comment(chars: &[char], start: usize) -> usize {
    let (mut index, mut depth) = (start, 0_usize);
    while let Some(&c) = chars.get(index) {
        match (c, chars.get(index + 1)) {
            ('/', Some('*')) => (depth, index) = (depth + 1, index + 2),
            ('*', Some('/')) => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            break;
        }
    }
    index
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut index = start + 1;
    while let Some(&c) = chars.get(index) {
        match c {
            '\\' => index += 2,
            '"' => return index + 1,
            _ => index += 1,
        }
    }
    chars.len()
}

/// The end of `r"…"` or `r#"…"#`; none for a raw name such as `r#type`.
fn end_of_raw_string(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars.get(start + 1..)?.iter().take_while(|&&c| c == '#').count();
    if chars.get(start + 1 + hashes) != Some(&'"') {
        return None;
    }
    let mut index = start + 2 + hashes;
    while index < chars.len() {
        let closes = chars.get(index) == Some(&'"')
            && chars.get(index + 1..index + 1 + hashes).is_some_and(|tail| tail.iter().all(|&c| c == '#'));
        if closes {
            return Some(index + 1 + hashes);
        }
        index += 1;
    }
    Some(chars.len())
}

/// The end of `'x'` or `'\n'`; none for a lifetime.
fn end_of_character(chars: &[char], start: usize) -> Option<usize> {
    if chars.get(start + 1) == Some(&'\\') {
        // The character after the backslash may itself be a quote.
        let tail = chars.get(start + 3..)?;
        return Some(start + 3 + tail.iter().position(|&c| c == '\'')? + 1);
    }
    (chars.get(start + 2) == Some(&'\'')).then_some(start + 3)
}

/// What marks an item as compiled for tests alone.
const TEST_MARKS: &[&str] = &["#[cfg(test)]", "#[cfg(all(test,"];

/// Blanks every module of blanked code that is compiled for tests alone and stands in the same file.
fn without_test_modules(code: &str) -> String {
    let mut kept = code.to_owned();
    for mark in TEST_MARKS {
        let mut from = 0;
        while let Some(found) = kept.get(from..).and_then(|rest| rest.find(mark)) {
            let start = from + found;
            from = start + mark.len();
            let Some(end) = end_of_module(&kept, from) else { continue };
            let (before, module, after) =
                (kept.get(..start), kept.get(start..end), kept.get(end..).unwrap_or_default());
            let blanked: String =
                module.unwrap_or_default().chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
            kept = [before.unwrap_or_default(), &blanked, after].concat();
        }
    }
    kept
}

/// Where the module ends whose attributes begin or go on at `from`; none if it is another item, or has a file of
/// its own.
fn end_of_module(code: &str, from: usize) -> Option<usize> {
    let rest = code.get(from..)?;
    let open = rest.find('{')?;
    let head = rest.get(..open)?;
    let is_module = head.split([']', ' ', '\n', '(', ')']).any(|word| word == "mod");
    if !is_module || head.contains(';') {
        return None;
    }
    Some(from + open + end_of_braces(rest.get(open..)?))
}

/// How many bytes the block takes that `text` begins with.
fn end_of_braces(text: &str) -> usize {
    let mut depth = 0_usize;
    for (offset, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return offset + 1;
        }
    }
    text.len()
}

#[test]
fn comments_and_literals_are_blanked_and_lines_stay() {
    // Words inside comments, strings, raw strings and characters are gone; code around them is left.
    let text = "let a = \"unsafe \\\" unsafe\"; // unsafe\n/* unsafe /* unsafe */\n unsafe */ code(r#\"un\"safe\"#);\n\
                let q = '\"'; let t: &'static str = x; let n = '\\''; keep(); br\"unsafe\"; r#type";
    let code = blank(text);
    assert_eq!(code.lines().count(), text.lines().count());
    assert!(!code.contains("unsafe"), "{code}");
    for word in ["let a", "code(", "&'static str", "keep()", "r#type"] {
        assert!(code.contains(word), "{word} is lost in {code}");
    }
}

#[test]
fn words_are_found_whole() {
    // A word inside a longer name is another word.
    assert_eq!(lines_with("unsafe_code\nunsafe {\nan_unsafe", "unsafe"), [2]);
    assert_eq!(lines_with("x std::net::TcpStream\nmystd::net", "std::net"), [1]);
}

#[test]
fn test_modules_are_left_out() {
    // What follows a test module counts again, on its own line.
    let code =
        "a();\n#[cfg(test)]\nmod tests {\n fn b() { clock(); }\n}\nclock();\n#[cfg(test)]\nuse x;\nclock();";
    assert_eq!(lines_with(&without_test_modules(code), "clock"), [6, 9]);
    let code =
        "#[cfg(all(test, loom))]\nmod models { clock(); }\n#[cfg(test)]\nmod tests;\nfn f() { clock(); }";
    assert_eq!(lines_with(&without_test_modules(code), "clock"), [5]);
}
