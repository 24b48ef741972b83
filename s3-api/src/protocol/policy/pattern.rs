//! Patterns of policies: `*` is any characters, `?` is one, `${name}` is what the request says.
//!
//! A pattern is read once, when its policy is. Its stars cut it into stretches:
//!
//! ```text
//!   logs/20??-*/${aws:username}/*.gz     logs/20??-   begins the text
//!                                        /ann/        is looked for behind that, from the left
//!                                        .gz          ends the text
//! ```
//!
//! What stands between stars is taken at its first place: if it fits at all, it fits with most room left behind it. So no place is
//! tried twice. A stretch without `?` is found in time linear in the text; one with `?` by a bit for each place of the text, all
//! places of a word at once. Whoever writes policies, and whoever sends long names, can not make a question dear: it takes no more
//! steps than the pattern has bytes times the words of such bits, 17 for the longest key.

use super::condition::Facts;
use core::cell::OnceCell;
use memchr::memmem;
use std::collections::BTreeMap;

/// What texts are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    One,
    Any,
    Variable { name: Box<str>, default: Option<Box<str>> },
}

/// A piece with what the request says put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known<'a> {
    Text(&'a str),
    One,
    Any,
}

impl<'a> Known<'a> {
    fn text(self) -> &'a str {
        if let Known::Text(text) = self { text } else { "" }
    }

    /// Bytes of a text that it takes at least.
    fn bytes_min(self) -> usize {
        match self {
            Known::Text(text) => text.len(),
            Known::One => 1,
            Known::Any => 0,
        }
    }
}

impl Pattern {
    /// With wildcards and without variables: `${` is what it is.
    pub(super) fn wild(pattern: &str) -> Pattern {
        Pattern::read(pattern, true, false)
    }

    /// With wildcards and variables, whose values' characters stand for themselves.
    ///
    /// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html>.)
    pub(super) fn with_variables(pattern: &str) -> Pattern {
        Pattern::read(pattern, true, true)
    }

    /// With variables alone: see [`Pattern::expanded`].
    pub(super) fn template(text: &str) -> Pattern {
        Pattern::read(text, false, true)
    }

    fn read(pattern: &str, wild: bool, variables: bool) -> Pattern {
        let (mut pieces, mut text) = (Vec::new(), String::new());
        let mut rest = pattern;
        while let Some(character) = rest.chars().next() {
            let variable =
                rest.strip_prefix("${").filter(|_| variables).and_then(|rest| rest.split_once('}'));
            let piece = match (variable, character) {
                (Some((plain @ ("*" | "?" | "$"), behind)), _) => {
                    text.push_str(plain);
                    rest = behind;
                    continue;
                }
                (Some((name, behind)), _) => {
                    rest = behind;
                    let (name, default) = match name.split_once(',') {
                        Some((name, default)) => {
                            (name.trim(), Some(default.trim().trim_matches('\'').into()))
                        }
                        None => (name, None),
                    };
                    Piece::Variable { name: name.into(), default }
                }
                (None, '*' | '?') if wild => {
                    rest = rest.get(1..).unwrap_or_default();
                    if character == '*' { Piece::Any } else { Piece::One }
                }
                (None, character) => {
                    text.push(character);
                    rest = rest.get(character.len_utf8()..).unwrap_or_default();
                    continue;
                }
            };
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text).into()));
            }
            pieces.push(piece);
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text.into()));
        }
        Pattern { pieces }
    }

    /// The facts that its variables ask for.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Variable { name, .. } => Some(&**name),
            _ => None,
        })
    }

    /// Whether it matches all of `text`. A variable that the request says nothing of matches nothing.
    pub(super) fn matches(&self, text: &Text<'_>, facts: &Facts) -> bool {
        self.put_in(facts, text.text.len()).is_some_and(|pieces| matches(&pieces, text))
    }

    /// Its text with variables put in; none if the request says nothing of one, or if it grows beyond `bytes_max`.
    pub(super) fn expanded(&self, facts: &Facts, bytes_max: usize) -> Option<String> {
        let pieces = self.put_in(facts, bytes_max)?;
        Some(pieces.iter().map(|piece| piece.text()).collect())
    }

    /// None as well if it takes more than `bytes_max`: what can not match is not looked at.
    fn put_in<'a>(&'a self, facts: &'a Facts, bytes_max: usize) -> Option<Vec<Known<'a>>> {
        let mut left = bytes_max;
        let mut pieces = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let piece = match piece {
                Piece::Text(text) => Known::Text(text),
                Piece::One => Known::One,
                Piece::Any => Known::Any,
                Piece::Variable { name, default } => Known::Text(facts.one(name).or(default.as_deref())?),
            };
            left = left.checked_sub(piece.bytes_min())?;
            pieces.push(piece);
        }
        Some(pieces)
    }
}

fn matches(pieces: &[Known<'_>], text: &Text<'_>) -> bool {
    let mut stretches = pieces.split(|piece| *piece == Known::Any);
    let Some(rest) = strip_start(stretches.next().unwrap_or_default(), text.text) else { return false };
    let Some(last) = stretches.next_back() else { return rest.is_empty() };
    let Some(between) = strip_end(last, rest) else { return false };
    let mut from = text.text.len() - rest.len();
    let to = from + between.len();
    for stretch in stretches {
        match text.find(stretch, from, to) {
            Some(end) => from = end,
            None => return false,
        }
    }
    true
}

fn strip_start<'t>(stretch: &[Known<'_>], text: &'t str) -> Option<&'t str> {
    stretch.iter().try_fold(text, |rest, piece| match *piece {
        Known::Text(text) => rest.strip_prefix(text),
        Known::One => rest.chars().next().and_then(|character| rest.get(character.len_utf8()..)),
        Known::Any => None,
    })
}

fn strip_end<'t>(stretch: &[Known<'_>], text: &'t str) -> Option<&'t str> {
    stretch.iter().rev().try_fold(text, |rest, piece| match *piece {
        Known::Text(text) => rest.strip_suffix(text),
        Known::One => rest.chars().next_back().and_then(|last| rest.get(..rest.len() - last.len_utf8())),
        Known::Any => None,
    })
}

/// A text that patterns are compared with.
#[derive(Debug)]
pub(super) struct Text<'a> {
    text: &'a str,
    /// Made when a pattern is met that needs it.
    places: OnceCell<Places>,
}

impl<'a> Text<'a> {
    pub(super) fn new(text: &'a str) -> Text<'a> {
        Text { text, places: OnceCell::new() }
    }

    /// The end of the first place of `stretch` between the bytes `from` and `to`.
    fn find(&self, stretch: &[Known<'_>], from: usize, to: usize) -> Option<usize> {
        if stretch.contains(&Known::One) {
            return self.places.get_or_init(|| Places::of(self.text)).find(stretch, from, to);
        }
        let between = self.text.as_bytes().get(from..to)?;
        let (at, bytes) = match stretch {
            [piece] => (memmem::find(between, piece.text().as_bytes()), piece.text().len()),
            pieces => {
                let needle: String = pieces.iter().map(|piece| piece.text()).collect();
                (memmem::find(between, needle.as_bytes()), needle.len())
            }
        };
        Some(from + at? + bytes)
    }
}

const WORD_BITS: usize = u64::BITS as usize;

/// Where each character of a text stands: a bit for each place.
#[derive(Debug)]
struct Places {
    /// The byte at which each character begins, and that behind the last.
    starts: Vec<usize>,
    of: BTreeMap<char, Vec<u64>>,
}

impl Places {
    fn of(text: &str) -> Places {
        let mut starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let words = starts.len().div_ceil(WORD_BITS);
        let mut of = BTreeMap::new();
        for (index, character) in text.chars().enumerate() {
            let places = of.entry(character).or_insert_with(|| vec![0; words]);
            if let Some(word) = places.get_mut(index / WORD_BITS) {
                *word |= 1 << (index % WORD_BITS);
            }
        }
        starts.push(text.len());
        Places { starts, of }
    }

    /// As [`Text::find`]. A place stays as long as each character of the stretch stands where it would have to.
    fn find(&self, stretch: &[Known<'_>], from: usize, to: usize) -> Option<usize> {
        let from = self.starts.binary_search(&from).ok()?;
        let mut left = vec![u64::MAX; self.starts.len().div_ceil(WORD_BITS)];
        for (index, word) in left.iter_mut().enumerate() {
            let before = from.saturating_sub(index * WORD_BITS);
            *word = if before < WORD_BITS { u64::MAX << before } else { 0 };
        }
        let mut characters = 0;
        for piece in stretch {
            match *piece {
                Known::Text(text) => {
                    for character in text.chars() {
                        if !keep(&mut left, self.of.get(&character)?, characters) {
                            return None;
                        }
                        characters += 1;
                    }
                }
                Known::One => characters += 1,
                Known::Any => return None,
            }
        }
        // Whether it ends in time is known of the first place: each other ends later.
        let word = left.iter().position(|word| *word != 0)?;
        let first = word * WORD_BITS + left.get(word)?.trailing_zeros() as usize;
        self.starts.get(first + characters).copied().filter(|end| *end <= to)
    }
}

/// Keeps of `left` the places `at` characters before one of `places`. Whether any is left.
fn keep(left: &mut [u64], places: &[u64], at: usize) -> bool {
    let (words, bits) = (at / WORD_BITS, at % WORD_BITS);
    let mut any = 0;
    for (index, word) in left.iter_mut().enumerate() {
        let low = places.get(index + words).copied().unwrap_or(0) >> bits;
        let high = places.get(index + words + 1).copied().unwrap_or(0);
        *word &= low | high.checked_shl((WORD_BITS - bits) as u32).unwrap_or(0);
        any |= *word;
    }
    any != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wild(pattern: &str, text: &str) -> bool {
        Pattern::wild(pattern).matches(&Text::new(text), &Facts::default())
    }

    #[test]
    fn wildcards_match() {
        // Any, one, none, several, and what looks like a variable where there are none.
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("a?c", "abc", true),
            ("a?c", "aäc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("a*a", "a", false),
            ("*?*?*", "a", false),
            ("*?*?*", "ab", true),
            ("*a?c*", "xxabxxäadcx", true),
            ("*ä?c*c", "xxäbcx", false),
            ("*a?c*c", "xxabc", false),
            ("a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("ä*", "äöü", true),
            ("${x}", "${x}", true),
        ] {
            assert_eq!(wild(pattern, text), expected, "{pattern} {text}");
        }
    }

    /// What the documents say, word by word.
    fn plainly(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', pattern)), _) => (0..=text.len()).any(|skip| plainly(pattern, &text[skip..])),
            (Some(('?', pattern)), Some((_, text))) => plainly(pattern, text),
            (Some((wanted, pattern)), Some((character, text))) => {
                wanted == character && plainly(pattern, text)
            }
            _ => false,
        }
    }

    #[test]
    fn short_patterns_match_what_they_should() {
        // Every pattern of up to five characters, with every text of up to five; and the same shifted beyond a word of places.
        let words = |alphabet: &[char]| {
            let mut words = vec![Vec::new()];
            let mut begin = 0;
            for _ in 0..5 {
                let end = words.len();
                for at in begin..end {
                    for character in alphabet {
                        words.push([&words[at][..], &[*character]].concat());
                    }
                }
                begin = end;
            }
            words
        };
        let texts = words(&['a', 'ä']);
        for pattern in words(&['a', 'ä', '*', '?']) {
            let of = Pattern::wild(&pattern.iter().collect::<String>());
            let far = Pattern::wild(&format!("*?{}", pattern.iter().collect::<String>()));
            for text in &texts {
                let expected = plainly(&pattern, text);
                let text: String = text.iter().collect();
                assert_eq!(of.matches(&Text::new(&text), &Facts::default()), expected, "{pattern:?} {text}");
                let long = "b".repeat(63) + &text;
                assert!(!expected || far.matches(&Text::new(&long), &Facts::default()), "{pattern:?} {long}");
            }
        }
    }

    #[test]
    fn a_stretch_goes_over_the_end_of_a_word() {
        // Of the bits of places: the stretch begins in one word and ends two further on, or stands nowhere.
        let middle = "x".repeat(60) + "ab" + &"c".repeat(130) + "d" + &"y".repeat(9);
        for (pattern, expected) in [
            (format!("*ab?{}?*", "c".repeat(128)), true),
            (format!("*b?{}?d*", "c".repeat(128)), true),
            (format!("*b?{}d*", "c".repeat(130)), false),
            (format!("*{}?*y", "c".repeat(130)), true),
            ("*y?*y".to_owned(), true),
            (format!("*{}?*", "y".repeat(9)), false),
        ] {
            assert_eq!(wild(&pattern, &middle), expected, "{pattern}");
        }
    }

    #[test]
    fn variables_stand_for_themselves() {
        // A value's own wildcards are characters; a variable without a value matches nothing.
        let mut facts = Facts::default();
        facts.set("aws:username", "a*");
        let matches =
            |pattern: &str, text: &str| Pattern::with_variables(pattern).matches(&Text::new(text), &facts);
        assert!(matches("home/${aws:username}/*", "home/a*/x"));
        assert!(!matches("home/${aws:username}/*", "home/ab/x"));
        assert!(matches("*/${aws:username}?*", "x/a*b") && matches("*${aws:username}c*", "xa*cx"));
        assert!(matches("${*}${$}", "*$") && !matches("${*}", "x"));
        assert!(!matches("${aws:none}*", "x"));
        assert!(matches("${aws:none, 'x'}", "x"));
        let template = Pattern::template("p-${aws:username}*");
        assert_eq!(template.expanded(&facts, 5).as_deref(), Some("p-a**"));
        assert_eq!(template.expanded(&facts, 4), None);
        assert_eq!(template.variables().collect::<Vec<_>>(), ["aws:username"]);
    }
}
