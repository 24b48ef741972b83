//! JSON in which no name stands twice.
//!
//! "Individual elements must not contain multiple instances of the same key."
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>, "Policy grammar notes".) Of two
//! conditions of one name a reader that keeps the last would drop the first, and the policy would allow what it forbids.

use core::fmt;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The value of a whole document; none if it is not well formed, nests too deep or has a name twice.
pub(super) fn parse(document: &[u8]) -> Option<Value> {
    serde_json::from_slice(document).ok().map(|Unique(value)| value)
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value without a name that stands twice")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Value, A::Error> {
        let mut found = Vec::new();
        while let Some(Unique(value)) = values.next_element()? {
            found.push(value);
        }
        Ok(Value::Array(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Value, A::Error> {
        let mut found = Map::new();
        while let Some((name, Unique(value))) = pairs.next_entry::<String, Unique>()? {
            if found.insert(name, value).is_some() {
                return Err(de::Error::custom("a name stands twice"));
            }
        }
        Ok(Value::Object(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_stands_once() {
        // At every depth, also spelt differently; in other objects it may stand again.
        for twice in
            [r#"{"a":1,"a":1}"#, r#"{"Condition":{"Bool":{},"Bool":{}}}"#, r#"[{"b":null,"\u0062":2}]"#]
        {
            assert_eq!(parse(twice.as_bytes()), None, "{twice}");
        }
        for once in [r#"{"a":{"a":[1,-2,1.5,true,null,"x\n"]},"b":{"a":1}}"#, "[]", "\"\"", "7"] {
            assert_eq!(parse(once.as_bytes()), serde_json::from_str(once).ok(), "{once}");
        }
        assert_eq!(parse("[".repeat(100_000).as_bytes()), None);
    }

    proptest! {
        #[test]
        fn what_is_well_formed_reads_as_ever(text in r#"[{}\[\]:,"ab0-9.eE+ -]{0,30}"#) {
            // But for names that stand twice it is the parser everybody knows.
            let known: Option<Value> = serde_json::from_str(&text).ok();
            let ours = parse(text.as_bytes());
            prop_assert!(ours == known || ours.is_none());
        }
    }
}
