//! The document: JSON in, statements out.

use super::condition::{Condition, Facts};
use super::known;
use super::pattern::{Pattern, Text};
use super::{Subject, Verdict};
use crate::protocol::error::{ErrorCode, S3Error};
use crate::protocol::json;
use serde_json::{Map, Value};

/// "Bucket policies are limited to 20 KB in size."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/add-bucket-policy.html>.)
pub const POLICY_BYTES_MAX: usize = 20 << 10;

const RESOURCE_PREFIX: &str = "arn:aws:s3:::";

/// Where a policy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyPlace<'a> {
    /// With the bucket of this name: statements name principals, and resources in it only.
    Bucket(&'a str),
    /// With a user: statements name no principals.
    User,
}

/// Whom a statement is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principals {
    /// Whoever the policy stands with.
    Holder,
    /// Everybody, signed or not.
    Everybody,
    /// These: ARNs, account identifiers.
    These(Vec<String>),
    /// Everybody but these.
    Others(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statement {
    pub(super) allows: bool,
    pub(super) principals: Principals,
    /// Patterns, those of actions in lower case, and whether what does not match is meant.
    actions: (Vec<Pattern>, bool),
    resources: (Vec<Pattern>, bool),
    pub(super) conditions: Vec<Condition>,
}

/// A policy, understood in full.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub(super) statements: Vec<Statement>,
}

fn malformed(why: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    S3Error::with_message(ErrorCode::MalformedPolicy, why)
}

impl Policy {
    /// Reads a document.
    ///
    /// # Errors
    ///
    /// 400 `MalformedPolicy`, saying what is not understood.
    pub fn parse(document: &[u8], place: PolicyPlace<'_>) -> Result<Policy, S3Error> {
        if document.len() > POLICY_BYTES_MAX {
            return Err(malformed("Policy exceeds the maximum allowed document size."));
        }
        let value = json::parse(document).ok_or_else(|| malformed("This policy contains invalid Json"))?;
        let Value::Object(object) = value else { return Err(malformed("Policies must be a JSON object")) };
        known(&object, &["Version", "Id", "Statement"])?;
        match object.get("Version") {
            None => {}
            Some(Value::String(version)) if matches!(version.as_str(), "2012-10-17" | "2008-10-17") => {}
            Some(_) => return Err(malformed("The policy must contain a valid version string")),
        }
        let statements = match object.get("Statement") {
            Some(Value::Array(statements)) => statements.iter().collect(),
            Some(statement @ Value::Object(_)) => vec![statement],
            _ => return Err(malformed("Missing required field Statement")),
        };
        if statements.is_empty() {
            return Err(malformed("Missing required field Statement"));
        }
        let statements =
            statements.into_iter().map(|value| statement(value, place)).collect::<Result<_, _>>()?;
        Ok(Policy { statements })
    }

    /// What it says of `subject` doing `action` (`s3:GetObject`) on `resource` (`bucket` or `bucket/key`; empty for the service).
    ///
    /// Takes time in proportion to the policy's length, which has a bound, whatever the names are.
    pub fn judge(&self, subject: Subject<'_>, action: &str, resource: &str, facts: &Facts) -> Verdict {
        let action = action.to_ascii_lowercase();
        let (action, resource) = (Text::new(&action), Text::new(resource));
        let mut verdict = Verdict::Silent;
        for statement in &self.statements {
            match statement.is_about(subject, &action, &resource, facts) {
                None => {}
                Some(_) if !statement.allows => return Verdict::Deny,
                Some(Named::Itself) => verdict = Verdict::Allow,
                Some(Named::ByAccount) if verdict == Verdict::Silent => verdict = Verdict::AllowAccount,
                Some(Named::ByAccount) => {}
            }
        }
        verdict
    }

    /// Whether it asks for a fact that begins like this, whose name is compared without case: in a condition or by a variable.
    pub fn asks_for(&self, name: &str) -> bool {
        let begins =
            |asked: &str| asked.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        self.statements.iter().any(|statement| statement.asks().any(begins))
    }

    /// Whether it asks for a fact that is another as time goes by: what time it is, how old a signature is, how long a period lasts from now
    /// on.
    pub fn asks_for_time(&self) -> bool {
        const NAMES: [&str; 4] = [
            "aws:CurrentTime",
            "aws:EpochTime",
            "s3:signatureAge",
            "s3:object-lock-remaining-retention-days",
        ];
        NAMES.iter().any(|name| self.asks_for(name))
    }
}

impl Statement {
    /// How it names `subject`, if it is about it doing this.
    fn is_about(
        &self,
        subject: Subject<'_>,
        action: &Text<'_>,
        resource: &Text<'_>,
        facts: &Facts,
    ) -> Option<Named> {
        let any = |patterns: &[Pattern], text: &Text<'_>| {
            patterns.iter().any(|pattern| pattern.matches(text, facts))
        };
        let (actions, other_actions) = &self.actions;
        let (resources, other_resources) = &self.resources;
        // What nobody can put in counts against the sender, as in conditions.
        let is_unclear = resources.iter().flat_map(Pattern::variables).any(|name| facts.is_unclear(name));
        self.principals.name(subject).filter(|_| {
            any(actions, action) != *other_actions
                && if is_unclear { !self.allows } else { any(resources, resource) != *other_resources }
                && self.conditions.iter().all(|condition| condition.holds(facts, !self.allows))
        })
    }

    /// The facts that it asks for.
    fn asks(&self) -> impl Iterator<Item = &str> {
        let variables = self.resources.0.iter().flat_map(Pattern::variables);
        self.conditions.iter().flat_map(Condition::asks).chain(variables)
    }
}

/// How a statement names a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// As itself, or with everybody.
    Itself,
    /// By the account that it is a user of.
    ByAccount,
}

impl Principals {
    fn name(&self, subject: Subject<'_>) -> Option<Named> {
        match self {
            Principals::Holder | Principals::Everybody => Some(Named::Itself),
            Principals::These(names) => {
                let named: Vec<Named> = names.iter().filter_map(|name| named(name, subject)).collect();
                named.iter().find(|named| **named == Named::Itself).or(named.first()).copied()
            }
            Principals::Others(names) => {
                (!names.iter().any(|name| named(name, subject).is_some())).then_some(Named::Itself)
            }
        }
    }
}

/// An account, by its identifier or as `arn:aws:iam::account:root`, is all its users.
fn named(name: &str, subject: Subject<'_>) -> Option<Named> {
    let Subject::User { account, arn } = subject else { return None };
    let account_of =
        |arn| str::strip_prefix(arn, "arn:aws:iam::").and_then(|rest| rest.strip_suffix(":root"));
    if name == arn {
        return Some(Named::Itself);
    }
    let is_account = name == account || account_of(name) == Some(account);
    let is_user = account_of(arn).is_none();
    is_account.then_some(if is_user { Named::ByAccount } else { Named::Itself })
}

fn known(object: &Map<String, Value>, names: &[&str]) -> Result<(), S3Error> {
    match object.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) => Err(malformed(format!("Unknown field {name}"))),
        None => Ok(()),
    }
}

fn texts(value: &Value, field: &str) -> Result<Vec<String>, S3Error> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        _ => Err(malformed(format!("Invalid value of {field}"))),
    };
    let texts: Vec<String> = match value {
        Value::Array(values) => values.iter().map(text).collect::<Result<_, _>>()?,
        value => vec![text(value)?],
    };
    if texts.is_empty() { Err(malformed(format!("{field} is empty"))) } else { Ok(texts) }
}

/// One of a pair of fields such as `Action` and `NotAction`.
fn either(object: &Map<String, Value>, field: &str, negated: &str) -> Result<(Vec<String>, bool), S3Error> {
    match (object.get(field), object.get(negated)) {
        (Some(value), None) => Ok((texts(value, field)?, false)),
        (None, Some(value)) => Ok((texts(value, negated)?, true)),
        _ => Err(malformed(format!("Missing required field {field}"))),
    }
}

fn statement(value: &Value, place: PolicyPlace<'_>) -> Result<Statement, S3Error> {
    let Value::Object(object) = value else { return Err(malformed("Statement is no JSON object")) };
    known(
        object,
        &[
            "Sid",
            "Effect",
            "Principal",
            "NotPrincipal",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Condition",
        ],
    )?;
    let allows = match object.get("Effect") {
        Some(Value::String(effect)) if effect == "Allow" => true,
        Some(Value::String(effect)) if effect == "Deny" => false,
        _ => return Err(malformed("Missing or invalid field Effect")),
    };
    let principals = principals(object, allows, place)?;
    let (mut actions, other_actions) = either(object, "Action", "NotAction")?;
    for action in &mut actions {
        action.make_ascii_lowercase();
        if action != "*" && !action.starts_with("s3:") {
            return Err(malformed("Policy has invalid action"));
        }
    }
    let (resources, other_resources) = either(object, "Resource", "NotResource")?;
    let resources: Vec<String> =
        resources.iter().map(|name| resource(name, place)).collect::<Result<_, _>>()?;
    let conditions = match object.get("Condition") {
        None => Vec::new(),
        Some(Value::Object(operators)) => conditions(operators)?,
        Some(_) => return Err(malformed("Condition is no JSON object")),
    };
    let actions: Vec<Pattern> = actions.iter().map(|action| Pattern::wild(action)).collect();
    if !actions.iter().all(known::is_action) {
        return Err(malformed("Policy has invalid action"));
    }
    // Of a user's policies AWS says nothing of the kind, and people write one statement for many buckets' actions.
    let is_narrow = matches!(place, PolicyPlace::Bucket(_)) && !other_actions && !other_resources;
    if is_narrow && !actions.iter().all(|action| known::applies(action, &resources)) {
        return Err(malformed("Action does not apply to any resource(s) in statement"));
    }
    let resources = resources.iter().map(|name| Pattern::with_variables(name)).collect();
    let (actions, resources) = ((actions, other_actions), (resources, other_resources));
    let statement = Statement { allows, principals, actions, resources, conditions };
    if let Some(name) = statement.asks().find(|name| !known::is_key(name)) {
        return Err(malformed(format!("Policy has an invalid condition key - {name}")));
    }
    Ok(statement)
}

/// A resource without the start that all have. In a bucket's policy it must be of that bucket.
fn resource(name: &str, place: PolicyPlace<'_>) -> Result<String, S3Error> {
    if name == "*" && place == PolicyPlace::User {
        return Ok(name.to_owned());
    }
    let refuse = || malformed("Policy has invalid resource");
    let rest = name.strip_prefix(RESOURCE_PREFIX).ok_or_else(refuse)?;
    if let PolicyPlace::Bucket(bucket) = place {
        let of = rest.split('/').next().unwrap_or_default();
        if !Pattern::wild(of).matches(&Text::new(bucket), &Facts::default()) {
            return Err(refuse());
        }
    }
    Ok(rest.to_owned())
}

fn principals(
    object: &Map<String, Value>,
    allows: bool,
    place: PolicyPlace<'_>,
) -> Result<Principals, S3Error> {
    let invalid = || malformed("Invalid principal in policy");
    let (value, other) = match (object.get("Principal"), object.get("NotPrincipal"), place) {
        (None, None, PolicyPlace::User) => return Ok(Principals::Holder),
        (_, _, PolicyPlace::User) => return Err(malformed("Policy of a user names a principal")),
        (Some(value), None, _) => (value, false),
        // To allow everybody but some is to allow those who are not even known.
        (None, Some(_), _) if allows => return Err(malformed("Allow with NotPrincipal is not allowed.")),
        (None, Some(value), _) => (value, true),
        _ => return Err(malformed("Missing required field Principal")),
    };
    let names = match value {
        Value::String(name) if name == "*" => vec!["*".to_owned()],
        Value::Object(kinds) => {
            known(kinds, &["AWS", "CanonicalUser", "Service", "Federated"]).map_err(|_| invalid())?;
            let mut names = Vec::new();
            for (kind, value) in kinds {
                for name in texts(value, kind)? {
                    match kind.as_str() {
                        "AWS" | "CanonicalUser" if is_principal(&name) => names.push(name),
                        "AWS" | "CanonicalUser" => return Err(invalid()),
                        // There are none of these here: they match nobody.
                        kind => names.push(format!("{kind} {name}")),
                    }
                }
            }
            names
        }
        _ => return Err(invalid()),
    };
    if names.is_empty() {
        return Err(invalid());
    }
    let everybody = names.iter().any(|name| name == "*");
    match (everybody, other) {
        (true, false) => Ok(Principals::Everybody),
        (true, true) => Err(invalid()),
        (false, false) => Ok(Principals::These(names)),
        (false, true) => Ok(Principals::Others(names)),
    }
}

/// `*`, an identifier of an account, or an ARN of a user, a role or an account, without wildcards.
fn is_principal(name: &str) -> bool {
    let plain = |text: &str| !text.is_empty() && !text.contains(['*', '?', ' ']);
    match name.strip_prefix("arn:aws:") {
        Some(rest) => {
            let parts: Vec<&str> = rest.splitn(4, ':').collect();
            matches!(parts.as_slice(), ["iam" | "sts", "", account, rest] if plain(account) && plain(rest))
        }
        None => name == "*" || (plain(name) && !name.starts_with("arn:")),
    }
}

fn conditions(operators: &Map<String, Value>) -> Result<Vec<Condition>, S3Error> {
    let mut found = Vec::new();
    for (operator, keys) in operators {
        let Value::Object(keys) = keys else { return Err(malformed("Invalid Condition")) };
        for (name, value) in keys {
            let plain = |value: &Value| match value {
                Value::String(text) => Ok(text.clone()),
                Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
                _ => Err(malformed(format!("Invalid value of condition {name}"))),
            };
            let values = match value {
                Value::Array(values) => values.iter().map(plain).collect::<Result<_, _>>()?,
                value => vec![plain(value)?],
            };
            let condition = Condition::new(operator, name, values);
            found.push(condition.ok_or_else(|| malformed(format!("Invalid Condition: {operator} {name}")))?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Subject<'static> = Subject::User { account: "1", arn: "arn:aws:iam::1:root" };
    const ANN: Subject<'static> = Subject::User { account: "2", arn: "arn:aws:iam::2:user/ann" };

    fn policy(statements: &str) -> Result<Policy, ErrorCode> {
        let document = format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{statements}]}}");
        Policy::parse(document.as_bytes(), PolicyPlace::Bucket("b")).map_err(|error| error.code)
    }

    fn statement(effect: &str, principal: &str, action: &str, resource: &str) -> String {
        format!(
            "{{\"Effect\":\"{effect}\",\"Principal\":{principal},\"Action\":\"{action}\",\"Resource\":\"arn:aws:s3:::{resource}\"}}"
        )
    }

    #[test]
    fn statements_allow_and_deny() {
        // A denial wins wherever it stands; who, what and on what must all fit.
        let text = statement("Allow", "{\"AWS\":\"2\"}", "s3:Get*", "b/*")
            + ","
            + &statement("Deny", "\"*\"", "s3:GetObject", "b/secret/*");
        let policy = policy(&text).unwrap();
        let judge = |subject, action: &str, resource: &str| {
            policy.judge(subject, action, resource, &Facts::default())
        };
        assert_eq!(judge(ANN, "s3:GetObject", "b/k"), Verdict::AllowAccount);
        assert_eq!(judge(ANN, "s3:getobject", "b/k"), Verdict::AllowAccount);
        assert_eq!(judge(ANN, "s3:GetObject", "b/secret/k"), Verdict::Deny);
        assert_eq!(judge(OWNER, "s3:GetObject", "b/k"), Verdict::Silent);
        assert_eq!(judge(Subject::Anonymous, "s3:GetObject", "b/secret/k"), Verdict::Deny);
        assert_eq!(judge(ANN, "s3:PutObject", "b/k"), Verdict::Silent);
        assert_eq!(judge(ANN, "s3:GetObject", "b"), Verdict::Silent);
    }

    #[test]
    fn principals_are_named_in_many_ways() {
        // Accounts, users, several; nobody is named by a service. Who is named by the account alone is told apart.
        use Verdict::{Allow, AllowAccount, Deny, Silent};
        for (principal, ann) in [
            ("\"*\"", Allow),
            ("{\"AWS\":\"*\"}", Allow),
            ("{\"AWS\":[\"7\",\"arn:aws:iam::2:user/ann\"]}", Allow),
            ("{\"AWS\":[\"2\",\"arn:aws:iam::2:user/ann\"]}", Allow),
            ("{\"AWS\":\"arn:aws:iam::2:root\"}", AllowAccount),
            ("{\"AWS\":\"2\"}", AllowAccount),
            ("{\"AWS\":\"arn:aws:iam::2:user/bob\"}", Silent),
            ("{\"CanonicalUser\":\"2\"}", AllowAccount),
            ("{\"Service\":\"2\"}", Silent),
        ] {
            let text = statement("Allow", principal, "s3:*", "b");
            let judge = |text: &str, subject| {
                policy(text).unwrap().judge(subject, "s3:ListBucket", "b", &Facts::default())
            };
            assert_eq!(judge(&text, ANN), ann, "{principal}");
            let denied = if ann == Silent { Silent } else { Deny };
            assert_eq!(judge(&text.replace("Allow", "Deny"), ANN), denied, "{principal}");
            let both = format!("{},{text}", statement("Allow", "{\"AWS\":\"2\"}", "s3:*", "b"));
            assert_eq!(judge(&both, ANN), if ann == Allow { Allow } else { AllowAccount }, "{principal}");
            let root = Subject::User { account: "2", arn: "arn:aws:iam::2:root" };
            assert_ne!(judge(&text, root), AllowAccount, "{principal}");
        }
        let others = statement("Deny", "{\"AWS\":\"1\"}", "s3:*", "b").replace("Principal", "NotPrincipal");
        let others = policy(&others).unwrap();
        assert_eq!(others.judge(ANN, "s3:ListBucket", "b", &Facts::default()), Verdict::Deny);
        assert_eq!(others.judge(OWNER, "s3:ListBucket", "b", &Facts::default()), Verdict::Silent);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        // Fields, effects, actions, resources of other buckets, principals, operators.
        let good = statement("Allow", "\"*\"", "s3:GetObject", "b/*");
        assert!(policy(&good).is_ok());
        for bad in [
            String::new(),
            good.replace("Allow", "allow"),
            good.replace("Effect", "Efect"),
            good.replace("s3:Get", "ec2:Get"),
            good.replace("GetObject", "GetObjet"),
            good.replace("Action", "NotAction").replace("GetObject", "GetObjet"),
            good.replace("b/*", "b"),
            good.replace("b/*", "b/${aws:user}/*"),
            good.replace("}", ",\"Condition\":{\"Null\":{\"s3:prefixx\":\"true\"}}}"),
            good.replace("b/*", "c/*"),
            good.replace("arn:aws:s3:::", ""),
            good.replace("\"Principal\":\"*\",", ""),
            good.replace("Principal", "NotPrincipal"),
            good.replace(":\"*\"", ":{\"AWS\":\"arn:aws:iam::2:user/*\"}"),
            good.replace(":\"*\"", ":{\"aws\":\"*\"}"),
            good.replace("}", ",\"Condition\":{\"StringIs\":{\"a\":\"b\"}}}"),
            good.replace("}", ",\"Condition\":[]}"),
            good.replace("\"s3:GetObject\"", "[]"),
        ] {
            assert_eq!(policy(&bad), Err(ErrorCode::MalformedPolicy), "{bad}");
        }
        assert!(Policy::parse(b"[1", PolicyPlace::User).is_err());
        assert!(Policy::parse(&vec![b' '; POLICY_BYTES_MAX + 1], PolicyPlace::User).is_err());
    }

    #[test]
    fn conditions_and_negations() {
        // A statement with a condition, and one about all actions and resources but some.
        let with = statement("Allow", "\"*\"", "s3:ListBucket", "b")
            .replace('}', ",\"Condition\":{\"StringLike\":{\"s3:prefix\":[\"public/*\"]},\"NumericLessThan\":{\"s3:max-keys\":11}}}");
        let policy_with = policy(&with).unwrap();
        let mut facts = Facts::default();
        facts.set("s3:max-keys", "10");
        assert_eq!(policy_with.judge(ANN, "s3:ListBucket", "b", &facts), Verdict::Silent);
        facts.set("s3:prefix", "public/x");
        assert_eq!(policy_with.judge(ANN, "s3:ListBucket", "b", &facts), Verdict::Allow);
        assert!(policy_with.asks_for("S3:PREFIX") && !policy_with.asks_for("s3:ExistingObjectTag/"));
        assert!(!policy_with.asks_for_time());
        for timed in [
            with.replace("\"NumericLessThan\":{\"s3:max-keys\"", "\"DateLessThan\":{\"aws:currenttime\""),
            with.replace("s3:max-keys", "s3:SignatureAge"),
            with.replace("public/*", "${aws:EpochTime}/*"),
            statement("Allow", "\"*\"", "s3:GetObject", "b/${aws:CurrentTime}/*"),
        ] {
            assert!(policy(&timed).unwrap().asks_for_time(), "{timed}");
        }
        let but = statement("Allow", "\"*\"", "s3:Delete*", "b/keep/*")
            .replace("Action", "NotAction")
            .replace("Resource", "NotResource");
        let but = policy(&but).unwrap();
        assert_eq!(but.judge(ANN, "s3:GetObject", "b/x", &facts), Verdict::Allow);
        assert_eq!(but.judge(ANN, "s3:GetObject", "b/keep/x", &facts), Verdict::Silent);
        assert_eq!(but.judge(ANN, "s3:DeleteObject", "b/x", &facts), Verdict::Silent);
    }
}
