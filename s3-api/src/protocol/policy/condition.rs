//! Conditions of statements, and the facts they are judged by.
//!
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>.)

use super::pattern::{Pattern, Text};
use crate::protocol::time::parse_iso8601;
use core::net::IpAddr;

/// The longest value that conditions are judged by.
///
/// "The PUT request header is limited to 8 KB in size."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>.) No value there can be longer.
const FACT_BYTES_MAX: usize = 8 << 10;

/// What is known of a request. Names are compared without case; a name may have several values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    values: Vec<(String, Vec<String>)>,
}

impl Facts {
    /// Says that `name` is `value`, in place of what was said of it.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.set_all(name, vec![value.into()]);
    }

    /// As [`Facts::set`] with several values, or none, which is not the same as a name that nothing is said of.
    pub fn set_all(&mut self, name: &str, values: Vec<String>) {
        let name = name.to_ascii_lowercase();
        self.values.retain(|(known, _)| *known != name);
        self.values.push((name, values));
    }

    /// Says that `name` is `value` as well as what was said of it. Names that differ in case alone are one name: where they have several
    /// values, none of them is to hide another.
    pub fn add(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match self.values.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, values)) if values.contains(&value) => {}
            Some((_, values)) => values.push(value),
            None => self.set(name, value),
        }
    }

    fn all(&self, name: &str) -> Option<&[String]> {
        let found = self.values.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, values)| values.as_slice())
    }

    /// Whether anything is said of `name`.
    pub fn has(&self, name: &str) -> bool {
        self.all(name).is_some()
    }

    /// Whether `name` is `value`, alone or among others.
    pub fn says(&self, name: &str, value: &str) -> bool {
        self.all(name).is_some_and(|values| values.iter().any(|known| known == value))
    }

    /// The value of a name that has one.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        match self.all(name) {
            Some([value]) => Some(value),
            _ => None,
        }
    }

    /// Whether `name` has several values, so that nobody can put in its value.
    pub(super) fn is_unclear(&self, name: &str) -> bool {
        self.all(name).is_some_and(|values| values.len() > 1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Text { ignore_case: bool },
    Like,
    Number(Order),
    Date(Order),
    Bool,
    Address,
    Null,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    /// One value is expected.
    One,
    /// Each of the request's values must fit; none at all fit.
    ForAll,
    /// One of the request's values must fit.
    ForAny,
}

/// What a fact is compared with, and the fact itself, read as the operator's kind.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Like(Pattern),
    Text(String),
    Number(f64),
    /// Milliseconds since 1970.
    Date(i64),
    Flag(bool),
    Network(Network),
    /// Its kind is read once the request's variables are put in.
    Later(Pattern),
}

/// An operator with a name and what is compared with it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    compare: Compare,
    negated: bool,
    if_exists: bool,
    quantifier: Quantifier,
    pub(super) name: String,
    values: Vec<Value>,
    /// Whether the values are without wildcards, variables, wide networks and what strangers are called.
    are_fixed: bool,
}

impl Compare {
    /// `text` as a value of the kind, if it is one.
    fn read(self, text: &str) -> Option<Value> {
        Some(match self {
            Compare::Text { ignore_case: false } => Value::Text(text.to_owned()),
            Compare::Text { ignore_case: true } => Value::Text(text.to_lowercase()),
            Compare::Like => Value::Like(Pattern::with_variables(text)),
            Compare::Number(_) => Value::Number(number(text)?),
            Compare::Date(_) => Value::Date(date(text)?),
            Compare::Bool | Compare::Null if text.eq_ignore_ascii_case("true") => Value::Flag(true),
            Compare::Bool | Compare::Null if text.eq_ignore_ascii_case("false") => Value::Flag(false),
            Compare::Bool | Compare::Null => return None,
            Compare::Address => Value::Network(Network::parse(text)?),
        })
    }

    /// As [`Compare::read`], of a policy.
    fn wanted(self, text: &str) -> Option<Value> {
        match self {
            Compare::Like | Compare::Null => self.read(text),
            _ if text.contains("${") => Some(Value::Later(Pattern::template(text))),
            _ => self.read(text),
        }
    }
}

impl Condition {
    /// None if there is no such operator, or a value is none of its kind.
    pub(super) fn new(operator: &str, name: &str, values: Vec<String>) -> Option<Condition> {
        let (quantifier, operator) = match operator.split_once(':') {
            Some(("ForAllValues", rest)) => (Quantifier::ForAll, rest),
            Some(("ForAnyValue", rest)) => (Quantifier::ForAny, rest),
            Some(_) => return None,
            None => (Quantifier::One, operator),
        };
        let (operator, if_exists) = match operator.strip_suffix("IfExists") {
            Some(operator) => (operator, true),
            None => (operator, false),
        };
        use Compare as C;
        let (compare, negated) = match operator {
            "StringEquals" | "BinaryEquals" => (C::Text { ignore_case: false }, false),
            "StringNotEquals" => (C::Text { ignore_case: false }, true),
            "StringEqualsIgnoreCase" => (C::Text { ignore_case: true }, false),
            "StringNotEqualsIgnoreCase" => (C::Text { ignore_case: true }, true),
            "StringLike" | "ArnLike" | "ArnEquals" => (C::Like, false),
            "StringNotLike" | "ArnNotLike" | "ArnNotEquals" => (C::Like, true),
            "NumericEquals" => (C::Number(Order::Equal), false),
            "NumericNotEquals" => (C::Number(Order::Equal), true),
            "NumericLessThan" => (C::Number(Order::Less), false),
            "NumericLessThanEquals" => (C::Number(Order::LessOrEqual), false),
            "NumericGreaterThan" => (C::Number(Order::Greater), false),
            "NumericGreaterThanEquals" => (C::Number(Order::GreaterOrEqual), false),
            "DateEquals" => (C::Date(Order::Equal), false),
            "DateNotEquals" => (C::Date(Order::Equal), true),
            "DateLessThan" => (C::Date(Order::Less), false),
            "DateLessThanEquals" => (C::Date(Order::LessOrEqual), false),
            "DateGreaterThan" => (C::Date(Order::Greater), false),
            "DateGreaterThanEquals" => (C::Date(Order::GreaterOrEqual), false),
            "Bool" => (C::Bool, false),
            "IpAddress" => (C::Address, false),
            "NotIpAddress" => (C::Address, true),
            "Null" if !if_exists => (C::Null, false),
            _ => return None,
        };
        let fixed = |value: &String| {
            let broad = Network::parse(value).is_some_and(|network| network.is_broad());
            // Who did not sign has an identifier as well.
            let stranger = name.eq_ignore_ascii_case("aws:userid") && value.to_lowercase() == "anonymous";
            !(value.contains(['*', '?', '$']) || compare == Compare::Address && broad || stranger)
        };
        let are_fixed = values.iter().all(fixed);
        let values: Vec<Value> = values.iter().map(|value| compare.wanted(value)).collect::<Option<_>>()?;
        let name = name.to_owned();
        let condition = Condition { compare, negated, if_exists, quantifier, name, values, are_fixed };
        Some(condition).filter(|condition| !condition.values.is_empty())
    }

    /// The facts that it asks for: by its name, and in its values.
    pub(super) fn asks(&self) -> impl Iterator<Item = &str> {
        core::iter::once(&*self.name).chain(self.variables())
    }

    fn variables(&self) -> impl Iterator<Item = &str> {
        let variables = self.values.iter().filter_map(|value| match value {
            Value::Like(pattern) | Value::Later(pattern) => Some(pattern.variables()),
            _ => None,
        });
        variables.flatten()
    }

    /// Whether it holds. "If the key that you specify in a policy condition is not present in the request context, the values do
    /// not match and the condition is false. If the policy condition requires that the key is not matched, … and the right key is
    /// not present, the condition is true." With `IfExists` a key that is not present makes every condition true. With a
    /// quantifier it is a key that has no values, negated or not: all of them fit, and none of them does.
    /// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html>,
    /// ForAllValues and ForAnyValue.)
    /// With a fact that can not be judged it holds if `unless_known`: so that it counts against the sender, what denies does, and what
    /// allows does not. So it is with several values where one is expected and it holds of some of them only.
    pub(super) fn holds(&self, facts: &Facts, unless_known: bool) -> bool {
        let found = facts.all(&self.name);
        if self.compare == Compare::Null {
            let absent = found.is_none_or(<[String]>::is_empty);
            return self.values.contains(&Value::Flag(absent));
        }
        let Some(found) = found else {
            return match self.quantifier {
                Quantifier::ForAll => true,
                Quantifier::ForAny => self.if_exists,
                Quantifier::One => self.if_exists || self.negated,
            };
        };
        let is_judged = |value: &String| value.len() <= FACT_BYTES_MAX && self.compare.read(value).is_some();
        if !found.iter().all(is_judged) || self.variables().any(|name| facts.is_unclear(name)) {
            return unless_known;
        }
        let one = |value: &String| self.fits(value, facts) != self.negated;
        match self.quantifier {
            Quantifier::ForAll => found.iter().all(one),
            Quantifier::ForAny => found.iter().any(one),
            Quantifier::One => {
                let mut told = found.iter().map(one);
                let first = told.next().unwrap_or(self.negated);
                if told.all(|other| other == first) { first } else { unless_known }
            }
        }
    }

    /// Whether it is one of those that are wanted.
    fn fits(&self, value: &str, facts: &Facts) -> bool {
        if self.compare == Compare::Like {
            let text = Text::new(value);
            return self.values.iter().any(|wanted| match wanted {
                Value::Like(pattern) => pattern.matches(&text, facts),
                _ => false,
            });
        }
        let Some(value) = self.compare.read(value) else { return false };
        self.values.iter().any(|wanted| match wanted {
            Value::Later(template) => {
                // As a value that is compared with, in lower case as well, can be no longer.
                let wanted = template.expanded(facts, 4 * FACT_BYTES_MAX);
                wanted
                    .and_then(|text| self.compare.read(&text))
                    .is_some_and(|wanted| self.equal(&wanted, &value))
            }
            wanted => self.equal(wanted, &value),
        })
    }

    fn equal(&self, wanted: &Value, value: &Value) -> bool {
        match (self.compare, wanted, value) {
            (Compare::Number(order), Value::Number(wanted), Value::Number(value)) => {
                order.holds(value.partial_cmp(wanted))
            }
            (Compare::Date(order), Value::Date(wanted), Value::Date(value)) => {
                order.holds(value.partial_cmp(wanted))
            }
            (Compare::Address, Value::Network(network), Value::Network(value)) => {
                value.is_address() && network.contains(value.address)
            }
            (_, wanted, value) => wanted == value,
        }
    }

    /// Whether it narrows a statement down to fixed values, so that not everybody is meant: see
    /// [`Policy::is_public`](super::Policy::is_public).
    pub(super) fn is_fixed(&self) -> bool {
        const KEYS: [&str; 11] = [
            "aws:sourceip",
            "aws:sourcearn",
            "aws:sourcevpc",
            "aws:sourcevpce",
            "aws:sourceaccount",
            "aws:sourceowner",
            "aws:principalorgid",
            "aws:principalaccount",
            "aws:principalarn",
            "aws:userid",
            "s3:dataaccesspointarn",
        ];
        KEYS.contains(&self.name.to_ascii_lowercase().as_str())
            && !self.negated
            && !self.if_exists
            && self.quantifier != Quantifier::ForAll
            && matches!(self.compare, Compare::Text { .. } | Compare::Like | Compare::Address)
            && self.are_fixed
    }
}

impl Order {
    fn holds(self, order: Option<core::cmp::Ordering>) -> bool {
        order.is_some_and(|order| match self {
            Order::Equal => order.is_eq(),
            Order::Less => order.is_lt(),
            Order::LessOrEqual => order.is_le(),
            Order::Greater => order.is_gt(),
            Order::GreaterOrEqual => order.is_ge(),
        })
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// An instant as ISO 8601 writes it, or in seconds since 1970; in milliseconds.
fn date(text: &str) -> Option<i64> {
    let ms = match parse_iso8601(text.as_bytes()) {
        Some(ms) => Some(ms),
        None => text.parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(1_000)),
    };
    ms.and_then(|ms| i64::try_from(ms).ok())
}

fn address_bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// `address/bits`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = address_bits(address);
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most)?,
            None => most,
        };
        Some(Network { address, bits })
    }

    /// Whether it is one address alone.
    fn is_address(&self) -> bool {
        self.bits == address_bits(self.address)
    }

    fn contains(&self, address: IpAddr) -> bool {
        let same = |a: u128, b: u128, width: u32| {
            let shift = width - self.bits;
            a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0)
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }

    /// "a fixed range … `/8` or narrower for IPv4, `/32` or narrower for IPv6".
    fn is_broad(&self) -> bool {
        self.bits < if self.address.is_ipv4() { 8 } else { 32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(operator: &str, wanted: &[&str], found: Option<&[&str]>) -> bool {
        let mut facts = Facts::default();
        if let Some(found) = found {
            facts.set_all("S3:Key", found.iter().map(|value| (*value).to_owned()).collect());
        }
        let wanted = wanted.iter().map(|value| (*value).to_owned()).collect();
        Condition::new(operator, "s3:key", wanted).unwrap().holds(&facts, false)
    }

    #[test]
    fn operators_compare() {
        // One that holds and one that does not, for each kind.
        for (operator, wanted, good, bad) in [
            ("StringEquals", "a", "a", "A"),
            ("StringEqualsIgnoreCase", "Ä", "ä", "a"),
            ("StringLike", "a*", "abc", "b"),
            ("StringNotLike", "a*", "b", "abc"),
            ("NumericLessThanEquals", "10", "10", "10.5"),
            ("NumericGreaterThan", "10", "11", "x"),
            ("DateLessThan", "2030-01-01T00:00:00Z", "2029-12-31T23:59:59Z", "2030-01-01T00:00:00Z"),
            ("DateGreaterThan", "0", "1", "0"),
            ("Bool", "TRUE", "true", "false"),
            ("IpAddress", "10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("IpAddress", "10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2"),
            ("IpAddress", "::/0", "2001:db8::1", "10.0.0.1"),
            ("NotIpAddress", "10.0.0.0/8", "11.0.0.1", "10.0.0.1"),
            ("Null", "false", "x", ""),
        ] {
            assert!(holds(operator, &[wanted], Some(&[good])), "{operator} {good}");
            assert!(bad.is_empty() || !holds(operator, &[wanted], Some(&[bad])), "{operator} {bad}");
        }
    }

    #[test]
    fn what_is_absent() {
        // False, but for negations, IfExists, Null and ForAllValues.
        assert!(!holds("StringEquals", &["a"], None) && holds("StringNotEquals", &["a"], None));
        assert!(
            holds("StringEqualsIfExists", &["a"], None)
                && !holds("StringEqualsIfExists", &["a"], Some(&["b"]))
        );
        assert!(holds("Null", &["true"], None) && !holds("Null", &["true"], Some(&["x"])));
        assert!(
            holds("ForAllValues:StringEquals", &["a"], None)
                && !holds("ForAnyValue:StringEquals", &["a"], None)
        );
        // Of no values none is another.
        for found in [None, Some(&[][..])] {
            assert!(!holds("ForAnyValue:StringNotEquals", &["a"], found), "{found:?}");
            assert!(!holds("ForAnyValue:StringNotLike", &["a*"], found), "{found:?}");
        }
        assert!(holds("ForAnyValue:StringNotEqualsIfExists", &["a"], None));
        assert!(holds("ForAllValues:StringNotEquals", &["a"], None));
    }

    #[test]
    fn several_values() {
        // Any of those wanted; each or one of those there.
        assert!(
            holds("StringEquals", &["a", "b"], Some(&["b"]))
                && !holds("StringNotEquals", &["a", "b"], Some(&["b"]))
        );
        assert!(holds("ForAllValues:StringEquals", &["a", "b"], Some(&["b", "a"])));
        assert!(!holds("ForAllValues:StringEquals", &["a"], Some(&["b", "a"])));
        assert!(holds("ForAnyValue:StringLike", &["a*"], Some(&["b", "ab"])));
    }

    #[test]
    fn values_that_do_not_agree_count_against_the_sender() {
        // Of one name, whatever its case, where one value is expected: as itself, negated, and put in for a variable.
        let mut facts = Facts::default();
        for (name, value) in [("s3:RequestObjectTag/Env", "prod"), ("s3:RequestObjectTag/env", "dev")] {
            facts.add(name, value);
        }
        facts.add("s3:RequestObjectTag/ENV", "dev");
        facts.set("aws:username", "dev");
        for (operator, name, wanted) in [
            ("StringEquals", "s3:RequestObjectTag/env", "dev"),
            ("StringEquals", "s3:RequestObjectTag/env", "prod"),
            ("StringNotEquals", "s3:RequestObjectTag/env", "prod"),
            ("StringLike", "aws:username", "${s3:RequestObjectTag/env}"),
            ("StringNotEquals", "aws:username", "${s3:RequestObjectTag/eNv}"),
        ] {
            let condition = Condition::new(operator, name, vec![wanted.into()]).unwrap();
            assert!(!condition.holds(&facts, false) && condition.holds(&facts, true), "{operator} {wanted}");
        }
        for (operator, wanted, expected) in
            [("StringEquals", "test", false), ("StringNotEquals", "test", true), ("StringLike", "*d*", true)]
        {
            let condition = Condition::new(operator, "s3:RequestObjectTag/env", vec![wanted.into()]).unwrap();
            for unless_known in [false, true] {
                assert_eq!(condition.holds(&facts, unless_known), expected, "{operator} {wanted}");
            }
        }
    }

    #[test]
    fn what_can_not_be_judged_counts_against_the_sender() {
        // Too long, or no value of the kind: neither what would allow holds nor its opposite; what denies does, as itself and negated.
        let mut facts = Facts::default();
        facts.set("aws:UserAgent", "a".repeat(FACT_BYTES_MAX + 1));
        for operator in ["StringLike", "StringNotLike", "StringEquals", "StringNotEqualsIfExists"] {
            let condition = Condition::new(operator, "aws:useragent", vec!["a*".into()]).unwrap();
            assert!(!condition.holds(&facts, false) && condition.holds(&facts, true), "{operator}");
        }
        for (operator, wanted) in
            [("NumericLessThan", "1.2"), ("DateGreaterThan", "0"), ("NotIpAddress", "10.0.0.0/8")]
        {
            facts.set("s3:TlsVersion", "unknown");
            let condition = Condition::new(operator, "s3:TlsVersion", vec![wanted.into()]).unwrap();
            assert!(!condition.holds(&facts, false) && condition.holds(&facts, true), "{operator}");
        }
        facts.set("aws:UserAgent", "a".repeat(FACT_BYTES_MAX));
        let condition = Condition::new("StringLike", "aws:useragent", vec!["a*".into()]).unwrap();
        assert!(condition.holds(&facts, false) && condition.holds(&facts, true));
    }

    #[test]
    fn variables_are_put_in_before_a_value_is_read() {
        // Of every kind; one that nothing is said of, or that is no value then, fits nothing.
        let mut facts = Facts::default();
        facts.set("s3:max-keys", "10");
        facts.set("aws:username", "Ann");
        facts.set("aws:SourceIp", "10.0.0.1");
        for (operator, name, wanted, expected) in [
            ("NumericEquals", "s3:max-keys", "${s3:max-keys}", true),
            ("NumericLessThan", "s3:max-keys", "1${s3:max-keys}", true),
            ("NumericEquals", "s3:max-keys", "${aws:username}", false),
            ("NumericEquals", "s3:max-keys", "${s3:none}", false),
            ("StringEquals", "aws:username", "${aws:username}", true),
            ("StringEqualsIgnoreCase", "aws:username", "a${s3:none, 'NN'}", true),
            ("StringEquals", "aws:username", "a${s3:none, 'NN'}", false),
            ("IpAddress", "aws:SourceIp", "${aws:SourceIp}/32", true),
        ] {
            let condition = Condition::new(operator, name, vec![wanted.into()]).unwrap();
            assert_eq!(condition.holds(&facts, false), expected, "{operator} {wanted}");
        }
    }

    #[test]
    fn what_is_no_condition() {
        // Unknown operators and values that no value of the kind is.
        for (operator, value) in [
            ("StringIs", "a"),
            ("NumericEquals", "a"),
            ("Bool", "yes"),
            ("IpAddress", "10.0.0.0/33"),
            ("DateEquals", "soon"),
            ("NullIfExists", "true"),
            ("ForSome:StringLike", "a"),
        ] {
            assert_eq!(Condition::new(operator, "k", vec![value.into()]), None, "{operator}");
        }
        assert_eq!(Condition::new("Bool", "k", Vec::new()), None);
    }
}
