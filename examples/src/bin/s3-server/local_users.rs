//! Users of this host by number or name: whom the other side of a shared memory may be.

use std::{fs, io};

/// Where names of users are looked up. Names that only a directory service knows are to be given as numbers.
const PASSWORDS: &str = "/etc/passwd";

/// Users that are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LocalUsers {
    is_any: bool,
    numbers: Vec<u32>,
}

impl LocalUsers {
    /// Reads `any`, or numbers and names with commas between.
    ///
    /// # Errors
    /// A sentence that says which of them is no user.
    pub(crate) fn parse(text: &str) -> Result<LocalUsers, String> {
        LocalUsers::parse_by(text, || fs::read_to_string(PASSWORDS))
    }

    fn parse_by(text: &str, passwords: impl Fn() -> io::Result<String>) -> Result<LocalUsers, String> {
        if text.trim() == "any" {
            return Ok(LocalUsers { is_any: true, numbers: Vec::new() });
        }
        let number = |name: &str| match name.trim() {
            "" => Err(format!("{text:?}: write any, or numbers or names of users with commas between")),
            "any" => Err(format!("{text:?}: any is written alone")),
            name => match name.parse() {
                Ok(number) => Ok(number),
                Err(_) => {
                    let passwords = passwords().map_err(|error| format!("{PASSWORDS}: {error}"))?;
                    number_of(name, &passwords).ok_or_else(|| format!("{PASSWORDS} has no user {name:?}"))
                }
            },
        };
        let numbers = text.split(',').map(number).collect::<Result<_, String>>()?;
        Ok(LocalUsers { is_any: false, numbers })
    }

    /// Whether a process of that user is one of theirs.
    pub(crate) fn has(&self, user: u32) -> bool {
        self.is_any || self.numbers.contains(&user)
    }
}

/// A line for each user, `name:password:number:…` (<https://man7.org/linux/man-pages/man5/passwd.5.html>).
fn number_of(name: &str, passwords: &str) -> Option<u32> {
    let found = passwords.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    found.split(':').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_either_way() {
        // Shows numbers, names and everybody; that a name is no beginning of another; and that what is no user is named.
        let parse = |text: &str| {
            LocalUsers::parse_by(text, || Ok("root:x:0:0::/:\napp2:x:1002:9::/:\napp:x:1001:9::/:\n".into()))
        };
        let some = parse(" app , 7,root").unwrap();
        assert_eq!([0, 7, 1001, 1002, 8].map(|user| some.has(user)), [true, true, true, false, false]);
        assert!(parse("any").unwrap().has(12345));
        assert!(!LocalUsers::default().has(0));
        for bad in ["", "app,", "nobody", "-1", "4294967296", "any,7", "x"] {
            let refused = parse(bad).unwrap_err();
            assert!(bad.is_empty() || bad.split(',').any(|one| refused.contains(one)), "{refused}");
        }
        let unread = LocalUsers::parse_by("app", || Err(io::ErrorKind::NotFound.into())).unwrap_err();
        assert!(unread.contains(PASSWORDS));
        assert!(LocalUsers::parse_by("7", || Err(io::ErrorKind::NotFound.into())).unwrap().has(7));
    }
}
