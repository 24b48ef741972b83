//! Policies: who may do what, on which resources, under which conditions.
//!
//! ```text
//!   document ─► Policy::parse ─► statements ─► Policy::judge(who, action, resource, facts) ─► Allow, Deny or silence
//! ```
//!
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html>; evaluation:
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>.) A policy stands with a bucket, and then its
//! statements name principals, or with a user, and then they do not.
//!
//! Invariants:
//! * What is not understood is refused when the policy is set, so that nothing is ever skipped when it is judged: names of actions and
//!   of facts that are on no list, actions that are never done to what the statement names.
//! * A fact that can not be judged, because it is too long or no value of the kind, counts against the sender.
//! * A fact comes from the server, or from a header whose name is on a list: no request can bring a fact of its own making.

mod condition;
mod document;
mod known;
mod pattern;
mod public;

pub use condition::Facts;
pub use document::{POLICY_BYTES_MAX, Policy, PolicyPlace, Principals};
pub use known::KEYS_TOLD;

/// What a policy says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A statement denies it, whatever others say.
    Deny,
    /// A statement allows it and none denies it.
    Allow,
    /// As [`Verdict::Allow`], but what is allowed is the subject's account, by its name: which of its users may, it says itself.
    ///
    /// "The account ARN and the shortened account ID behave the same way. Both delegate permissions to the account."
    /// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html>, "AWS account principals".)
    AllowAccount,
    /// No statement is about it.
    Silent,
}

/// Who asks, as policies name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// Nobody in particular: the request was not signed.
    Anonymous,
    /// A user of an account.
    User {
        /// The account's identifier.
        account: &'a str,
        /// `arn:aws:iam::account:user/name`, or `arn:aws:iam::account:root`.
        arn: &'a str,
    },
}
