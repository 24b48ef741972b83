//! Patterns of policies: `*` is any characters, `?` is one, `${name}` is what the request says.

use super::condition::Facts;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    One,
    Any,
}

/// Whether `pattern` matches all of `text`. With `facts` variables are put in, whose characters stand for themselves; one that the
/// request says nothing of matches nothing.
///
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html>.)
pub(super) fn matches(pattern: &str, text: &str, facts: Option<&Facts>) -> bool {
    tokens(pattern, facts, true).is_some_and(|tokens| glob(&tokens, text))
}

/// `text` with variables put in; none if the request says nothing of one.
pub(super) fn expanded(text: &str, facts: &Facts) -> Option<String> {
    if !text.contains("${") {
        return Some(text.to_owned());
    }
    let tokens = tokens(text, Some(facts), false)?;
    Some(
        tokens
            .iter()
            .filter_map(|token| if let Token::Literal(c) = token { Some(*c) } else { None })
            .collect(),
    )
}

fn tokens(pattern: &str, facts: Option<&Facts>, wild: bool) -> Option<Vec<Token>> {
    let mut tokens = Vec::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        let behind = rest.get(character.len_utf8()..).unwrap_or_default();
        if let (Some(facts), Some((name, behind))) =
            (facts, rest.strip_prefix("${").and_then(|rest| rest.split_once('}')))
        {
            match name {
                "*" | "?" | "$" => tokens.extend(name.chars().map(Token::Literal)),
                name => {
                    let (name, default) = match name.split_once(',') {
                        Some((name, default)) => (name.trim(), Some(default.trim().trim_matches('\''))),
                        None => (name, None),
                    };
                    let value = facts.one(name).or(default)?;
                    tokens.extend(value.chars().map(Token::Literal));
                }
            }
            rest = behind;
            continue;
        }
        tokens.push(match character {
            '*' if wild => Token::Any,
            '?' if wild => Token::One,
            other => Token::Literal(other),
        });
        rest = behind;
    }
    Some(tokens)
}

/// Goes back to the last `*` only: linear in practice, and never worse than pattern times text.
fn glob(pattern: &[Token], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut from) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(&character) = text.get(at) {
        match pattern.get(from) {
            Some(Token::Any) => {
                retry = Some((from + 1, at));
                from += 1;
            }
            Some(Token::One) => (at, from) = (at + 1, from + 1),
            Some(Token::Literal(wanted)) if *wanted == character => (at, from) = (at + 1, from + 1),
            _ => match &mut retry {
                Some((behind, begun)) => {
                    *begun += 1;
                    (from, at) = (*behind, *begun);
                }
                None => return false,
            },
        }
    }
    pattern.get(from..).unwrap_or_default().iter().all(|token| *token == Token::Any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match() {
        // Any, one, none, several, and what looks like a variable where there are none.
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("ä*", "äöü", true),
            ("${x}", "${x}", true),
        ] {
            assert_eq!(matches(pattern, text, None), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn variables_stand_for_themselves() {
        // A value's own wildcards are characters; a variable without a value matches nothing.
        let mut facts = Facts::default();
        facts.set("aws:username", "a*");
        assert!(matches("home/${aws:username}/*", "home/a*/x", Some(&facts)));
        assert!(!matches("home/${aws:username}/*", "home/ab/x", Some(&facts)));
        assert!(matches("${*}${$}", "*$", Some(&facts)) && !matches("${*}", "x", Some(&facts)));
        assert!(!matches("${aws:none}*", "x", Some(&facts)));
        assert!(matches("${aws:none, 'x'}", "x", Some(&facts)));
        assert_eq!(expanded("p-${aws:username}*", &facts).as_deref(), Some("p-a**"));
    }
}
