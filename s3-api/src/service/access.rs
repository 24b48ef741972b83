//! Who may do what: what an embedder decides, and what is decided unless it does.
//!
//! ```text
//!   principal ┐
//!   action    ├─► Authorizer::decide ─► Allow │ Deny │ LookAtObject ─► asked again, with the object's owner, list and tags
//!   resource  │
//!   bucket    ┘   owner, policy, list, ownership, public access block
//! ```
//!
//! [`Policies`] decides as S3 does
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/how-s3-evaluates-access-control.html>): a denial anywhere is final; within
//! the account that owns the resource, the user's policies or the bucket's must allow, the latter by naming the user or everybody: what
//! it allows the account, the account's users have by their own policies; across accounts, the user's own and either the bucket's
//! policy or a list.

use super::{facts::RequestFacts, identity::Principal};
use crate::protocol::{
    acl::{Acl, Permission},
    operation::Resource,
    ownership::{ObjectOwnership, PublicAccessBlock},
    policy::{Facts, Policy, Verdict},
    tagging::TagSet,
};

/// What decides about access to a bucket, of all that is kept with it.
#[derive(Clone, Debug)]
pub struct BucketAccess {
    /// Its owner and list.
    pub acl: Acl,
    /// Its policy.
    pub policy: Option<Policy>,
    /// Who owns its objects.
    pub ownership: ObjectOwnership,
    /// What it keeps from the public.
    pub block: PublicAccessBlock,
}

impl BucketAccess {
    /// Whether lists have a say.
    pub fn has_lists(&self) -> bool {
        self.ownership != ObjectOwnership::BucketOwnerEnforced
    }

    /// Whether its policy or its list lets strangers in.
    pub fn is_public(&self) -> bool {
        let policy = self.policy.as_ref().is_some_and(Policy::is_public);
        let list = self.has_lists() && !self.block.ignore_public_acls && self.acl.is_public();
        policy || list
    }
}

/// What is known of the object that a request is about.
#[derive(Clone, Copy, Debug)]
pub enum ObjectAccess<'a> {
    /// Nothing: nobody looked.
    Unknown,
    /// There is none.
    Absent,
    /// It has this list, or its bucket's owner's alone; and these tags.
    Present {
        /// The list.
        acl: Option<&'a Acl>,
        /// The tags.
        tags: &'a TagSet,
    },
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// What policies call it: `s3:GetObject`.
    pub action: &'a str,
    /// Whether it is done along the way of another action, which is asked about by itself, to what that one writes: see
    /// [`Actions::others`](crate::protocol::operation::Actions::others).
    pub is_secondary: bool,
    /// On what.
    pub resource: &'a Resource,
    /// The bucket, if there is one.
    pub bucket: Option<&'a BucketAccess>,
    /// The object.
    pub object: ObjectAccess<'a>,
    /// What else is known of the request.
    pub facts: &'a RequestFacts<'a>,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may be done.
    Allow,
    /// It may not.
    Deny,
    /// It would be allowed, but only identities of the account that owns the bucket may do it at all.
    OwnersOnly,
    /// That depends on the object. An answer to a question that has it already is a denial.
    LookAtObject,
}

/// Decides about each operation before anything of it is done. Of a copy's source it is asked by itself, and of each key that is
/// to be deleted.
pub trait Authorizer: Send + Sync {
    /// Whether this may be done. Must not block.
    fn decide(&self, access: &Access<'_>) -> Decision;

    /// Whether what was decided about a request of `principal` may be decided otherwise a moment later, though neither it nor the bucket
    /// has changed: such a request is decided about again once its bytes are there. Default: yes.
    fn depends_on_time(&self, principal: &Principal, bucket: Option<&BucketAccess>) -> bool {
        let _ = (principal, bucket);
        true
    }

    /// Whether `principal` may have sessions of a transport, over which the bytes of its other requests then go: each of
    /// those is decided about by itself. Default: whoever signs.
    fn authorize_sessions(&self, principal: &Principal) -> bool {
        !principal.is_anonymous()
    }

    /// Whether requests without a signature may do everything: what they write is then the bucket's owner's. Default: no.
    fn is_open(&self) -> bool {
        false
    }
}

/// Decides by policies and lists, as S3 does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policies {
    /// Whether requests without a signature are let in, to do everything: for networks without strangers.
    pub anonymous: bool,
}

impl Authorizer for Policies {
    fn decide(&self, access: &Access<'_>) -> Decision {
        if self.anonymous && access.principal.is_anonymous() {
            return Decision::Allow;
        }
        let Some(bucket) = access.bucket else {
            return allow_if(own(access, None) == Verdict::Allow);
        };
        let is_owner = access.principal.account_id() == Some(bucket.acl.owner.as_str());
        let names_object = access.resource.key().is_some() && is_about_object(access.action);
        // What is done along the way is done to the object that is written, whoever owns the one that is there.
        let about_object = names_object && !access.is_secondary;
        let by_owner = about_object && (bucket.has_lists() || !is_owner);
        let by_tags = names_object && asks_for(access, bucket, EXISTING_TAG);
        if matches!(access.object, ObjectAccess::Unknown)
            && (by_owner || by_tags || is_by_version(access, bucket))
        {
            return Decision::LookAtObject;
        }
        let facts = if by_tags { with_tags(access) } else { None };
        decide_in(access, bucket, facts.as_ref(), is_owner, about_object)
    }

    fn depends_on_time(&self, principal: &Principal, bucket: Option<&BucketAccess>) -> bool {
        policies(principal, bucket).any(Policy::asks_for_time)
    }

    fn authorize_sessions(&self, principal: &Principal) -> bool {
        self.anonymous || !principal.is_anonymous()
    }

    fn is_open(&self) -> bool {
        self.anonymous
    }
}

fn allow_if(allowed: bool) -> Decision {
    if allowed { Decision::Allow } else { Decision::Deny }
}

/// `facts`: those to judge by, if not the request's own.
fn decide_in(
    access: &Access<'_>,
    bucket: &BucketAccess,
    facts: Option<&Facts>,
    is_owner: bool,
    about_object: bool,
) -> Decision {
    let (own, theirs) = (own(access, facts), of_bucket(access, bucket, facts, is_owner));
    if own == Verdict::Deny || theirs == Verdict::Deny {
        return Decision::Deny;
    }
    if access.is_secondary && is_writers(access.action, bucket) {
        let by_user = own == Verdict::Allow || (is_owner && theirs == Verdict::Allow);
        return allow_if(by_user || access.principal.is_anonymous());
    }
    if about_object && matches!(access.object, ObjectAccess::Absent) {
        return may_know_of_absence(access, bucket);
    }
    // Whose it is: an object's writer's, where lists have a say; else the bucket's owner's.
    let list = match access.object {
        ObjectAccess::Present { acl, .. } if bucket.has_lists() => acl,
        _ => None,
    };
    let bucket_owner = bucket.acl.owner.as_str();
    let resource_owner = match list {
        Some(list) if about_object => list.owner.as_str(),
        _ => bucket_owner,
    };
    let account = access.principal.account_id();
    let reaches = resource_owner == bucket_owner;
    if account == Some(resource_owner) {
        return allow_if(own == Verdict::Allow || (theirs == Verdict::Allow && reaches));
    }
    let by_policy = matches!(theirs, Verdict::Allow | Verdict::AllowAccount) && reaches;
    let by_list = bucket.has_lists()
        && match list_permission(access.action) {
            Some(permission) if about_object => {
                list.is_some_and(|list| list.permits(account, permission, !bucket.block.ignore_public_acls))
            }
            Some(permission) => bucket.acl.permits(account, permission, !bucket.block.ignore_public_acls),
            None => false,
        };
    let by_user = access.principal.is_anonymous() || own == Verdict::Allow;
    match (by_policy || by_list) && by_user {
        true if is_owners_only(access.action) => Decision::OwnersOnly,
        allowed => allow_if(allowed),
    }
}

/// Whether it is the writer's to say of what it writes, unless somebody denies it: tags where it owns that, and a list always, as none
/// but a harmless one is taken where it does not.
///
/// A policy that allows `s3:PutObject` alone, on the condition that the bucket's owner gets full control by such a list, is Amazon's own
/// example (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/example-bucket-policies-condition-keys.html>, "Granting s3:PutObject
/// permission with a condition requiring the bucket owner to get full control"). Locks bind the bucket's owner, and are for it to give.
fn is_writers(action: &str, bucket: &BucketAccess) -> bool {
    match action {
        "s3:PutObjectAcl" => true,
        "s3:PutObjectTagging" => bucket.ownership == ObjectOwnership::ObjectWriter,
        _ => false,
    }
}

/// Whether no policy can give it to another account: who may change a policy may do everything.
///
/// "If you have the correct permissions, but you're not using an identity that belongs to the bucket owner's account, Amazon S3
/// returns a 405 Method Not Allowed error."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketPolicy.html>, "Permissions"; likewise GetBucketPolicy and
/// DeleteBucketPolicy.)
fn is_owners_only(action: &str) -> bool {
    matches!(action, "s3:GetBucketPolicy" | "s3:PutBucketPolicy" | "s3:DeleteBucketPolicy")
}

/// What the sender's own policies say. An account itself may do everything that is its own, and asks others like its users do.
fn own(access: &Access<'_>, facts: Option<&Facts>) -> Verdict {
    let Some(identity) = access.principal.identity() else { return Verdict::Silent };
    if identity.user.is_none() {
        return Verdict::Allow;
    }
    let mut verdict = Verdict::Silent;
    let facts = facts.unwrap_or_else(|| access.facts.facts());
    for policy in &identity.policies {
        match policy.judge(access.principal.subject(), access.action, &name_of(access.resource), facts) {
            Verdict::Deny => return Verdict::Deny,
            Verdict::Allow => verdict = Verdict::Allow,
            Verdict::AllowAccount | Verdict::Silent => {}
        }
    }
    verdict
}

/// What the bucket's policy says.
fn of_bucket(access: &Access<'_>, bucket: &BucketAccess, facts: Option<&Facts>, is_owner: bool) -> Verdict {
    let Some(policy) = &bucket.policy else { return Verdict::Silent };
    let facts = facts.unwrap_or_else(|| access.facts.facts());
    let verdict = policy.judge(access.principal.subject(), access.action, &name_of(access.resource), facts);
    let is_root = access.principal.identity().is_some_and(|identity| identity.user.is_none());
    match verdict {
        // "To ensure that bucket owners don't inadvertently lock themselves out of their own buckets, the root principal in a
        // bucket owner's AWS account can perform the GetBucketPolicy, PutBucketPolicy, and DeleteBucketPolicy API actions,
        // even if their bucket policy explicitly denies the root principal's access."
        // (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketPolicy.html>, "Permissions".)
        Verdict::Deny if is_owner && is_root && is_owners_only(access.action) => Verdict::Silent,
        // "RestrictPublicBuckets … restricts access to this bucket to only AWS service principals and authorized users
        // within this account if the bucket has a public policy."
        // (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PublicAccessBlockConfiguration.html>.)
        Verdict::Allow | Verdict::AllowAccount
            if !is_owner && bucket.block.restrict_public_buckets && policy.is_public() =>
        {
            Verdict::Silent
        }
        verdict => verdict,
    }
}

/// "If the object you request doesn't exist, the error that Amazon S3 returns depends on whether you also have the s3:ListBucket
/// permission."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>, Permissions.)
fn may_know_of_absence(access: &Access<'_>, bucket: &BucketAccess) -> Decision {
    let Some(name) = access.resource.bucket() else { return Decision::Deny };
    let mut facts = access.facts.facts().clone();
    facts.set("s3:prefix", access.resource.key().unwrap_or_default());
    let resource = Resource::Bucket { bucket: name.to_owned() };
    let listing = Access { action: "s3:ListBucket", resource: &resource, ..*access };
    let is_owner = access.principal.account_id() == Some(bucket.acl.owner.as_str());
    decide_in(&listing, bucket, Some(&facts), is_owner, false)
}

fn name_of(resource: &Resource) -> String {
    match resource {
        Resource::Service => String::new(),
        Resource::Bucket { bucket } => bucket.clone(),
        Resource::Object { bucket, key } => format!("{bucket}/{key}"),
    }
}

/// How names of facts begin that are tags of the object.
const EXISTING_TAG: &str = "s3:ExistingObjectTag/";

/// Whether a policy that has a say asks for facts that begin like this.
fn asks_for(access: &Access<'_>, bucket: &BucketAccess, name: &str) -> bool {
    policies(access.principal, Some(bucket)).any(|policy| policy.asks_for(name))
}

/// All that can decide about what `principal` does in `bucket`.
fn policies<'a>(
    principal: &'a Principal,
    bucket: Option<&'a BucketAccess>,
) -> impl Iterator<Item = &'a Policy> {
    let own = principal.identity().map(|identity| identity.policies.as_slice()).unwrap_or_default();
    own.iter().chain(bucket.and_then(|bucket| bucket.policy.as_ref()))
}

/// Whether it depends on the name of a version, which is one if the version that is found by it has that name.
fn is_by_version(access: &Access<'_>, bucket: &BucketAccess) -> bool {
    const NAME: &str = "s3:VersionId";
    access.resource.key().is_some() && asks_for(access, bucket, NAME) && access.facts.facts().has(NAME)
}

/// The facts with the tags of the object, if it has any.
fn with_tags(access: &Access<'_>) -> Option<Facts> {
    let ObjectAccess::Present { tags, .. } = access.object else { return None };
    let mut facts = (!tags.is_empty()).then(|| access.facts.facts().clone())?;
    for (key, value) in &tags.tags {
        facts.add(&format!("{EXISTING_TAG}{key}"), value.as_str());
    }
    Some(facts)
}

/// Whether it is about an object that is there, rather than about what is to be there or not.
fn is_about_object(action: &str) -> bool {
    let Some(name) = action.strip_prefix("s3:") else { return false };
    let subject = ["Get", "Put", "Delete"].iter().find_map(|verb| name.strip_prefix(verb));
    let Some(of) = subject.and_then(|rest| rest.strip_prefix("Object")) else { return false };
    let of = of.strip_prefix("Version").unwrap_or(of);
    let reads = name.starts_with("Get");
    matches!(of, "Acl" | "Tagging" | "Retention" | "LegalHold" | "Attributes" | "Torrent")
        || (of.is_empty() && reads)
}

/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html>, "Mapping of ACL permissions and access policy
/// permissions".)
fn list_permission(action: &str) -> Option<Permission> {
    Some(match action {
        "s3:ListBucket" | "s3:ListBucketVersions" | "s3:ListBucketMultipartUploads" => Permission::Read,
        "s3:PutObject" | "s3:DeleteObject" | "s3:AbortMultipartUpload" | "s3:ListMultipartUploadParts" => {
            Permission::Write
        }
        "s3:GetBucketAcl" | "s3:GetObjectAcl" | "s3:GetObjectVersionAcl" => Permission::ReadAcp,
        "s3:PutBucketAcl" | "s3:PutObjectAcl" | "s3:PutObjectVersionAcl" => Permission::WriteAcp,
        "s3:GetObject"
        | "s3:GetObjectVersion"
        | "s3:GetObjectTorrent"
        | "s3:GetObjectAttributes"
        | "s3:GetObjectVersionAttributes" => Permission::Read,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::identity::{Account, Identity};
    use super::*;
    use crate::protocol::{
        acl::{AclRequest, CannedAcl},
        policy::PolicyPlace,
    };
    use std::sync::Arc;

    fn account(id: &str) -> Arc<Account> {
        Arc::new(Account { id: id.into(), display_name: id.into(), email: None })
    }

    fn root(id: &str) -> Principal {
        Principal::Identity(Arc::new(Identity::root("k", account(id))))
    }

    fn user(id: &str, statements: &str) -> Principal {
        let policies = match statements {
            "" => Vec::new(),
            text => {
                let text = format!("{{\"Statement\":[{text}]}}");
                vec![Policy::parse(text.as_bytes(), PolicyPlace::User).unwrap()]
            }
        };
        Principal::Identity(Arc::new(Identity::user("k", account(id), "ann", policies)))
    }

    fn canned(owner: &str, name: &str) -> Acl {
        let request = AclRequest::Canned(CannedAcl::parse(name.as_bytes()).unwrap());
        request.resolve(owner, "owner", |_| None, |_| true).unwrap()
    }

    fn bucket(list: &str, statement: &str) -> BucketAccess {
        let policy = (!statement.is_empty()).then(|| {
            let text = format!("{{\"Statement\":[{statement}]}}");
            Policy::parse(text.as_bytes(), PolicyPlace::Bucket("b")).unwrap()
        });
        let (ownership, block) = (ObjectOwnership::ObjectWriter, PublicAccessBlock::default());
        BucketAccess { acl: canned("owner", list), policy, ownership, block }
    }

    fn decide(
        principal: &Principal,
        action: &str,
        key: &str,
        bucket: &BucketAccess,
        object: ObjectAccess<'_>,
    ) -> bool {
        let resource = match key {
            "" => Resource::Bucket { bucket: "b".into() },
            key => Resource::Object { bucket: "b".into(), key: key.into() },
        };
        let (bucket, facts) = (Some(bucket), RequestFacts::ready(Facts::default()));
        let access = Access {
            principal,
            action,
            is_secondary: false,
            resource: &resource,
            bucket,
            object,
            facts: &facts,
        };
        Policies::default().decide(&access) == Decision::Allow
    }

    const ALLOW_READ: &str = "{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"s3:GetObject\",\"Resource\":\"arn:aws:s3:::b/*\"}";
    const MAY_ALL: &str = "{\"Effect\":\"Allow\",\"Action\":\"s3:*\",\"Resource\":\"*\"}";

    #[test]
    fn within_an_account() {
        // The account may do all; a user what its policies or the bucket's allow, and nothing that one of them denies.
        let private = bucket("private", "");
        let unknown = ObjectAccess::Unknown;
        assert!(decide(&root("owner"), "s3:PutObject", "k", &private, unknown));
        assert!(!decide(&user("owner", ""), "s3:PutObject", "k", &private, unknown));
        assert!(decide(&user("owner", MAY_ALL), "s3:PutObject", "k", &private, unknown));
        let denied = bucket("private", &ALLOW_READ.replace("Allow", "Deny").replace("GetObject", "*"));
        assert!(!decide(&root("owner"), "s3:PutObject", "k", &denied, unknown));
        let deny_policy =
            "{\"Effect\":\"Deny\",\"Principal\":\"*\",\"Action\":\"s3:*\",\"Resource\":\"arn:aws:s3:::b\"}";
        let locked_out = bucket("private", deny_policy);
        assert!(decide(&root("owner"), "s3:DeleteBucketPolicy", "", &locked_out, unknown));
        assert!(!decide(&user("owner", MAY_ALL), "s3:DeleteBucketPolicy", "", &locked_out, unknown));
        assert!(!decide(&root("owner"), "s3:ListBucket", "", &locked_out, unknown));
    }

    #[test]
    fn an_account_decides_about_its_users() {
        // What a bucket's policy gives to its owner's account, or another, a user has only by policies of its own.
        let tags = TagSet::default();
        let here = ObjectAccess::Present { acl: None, tags: &tags };
        let to = |principal: &str| {
            bucket("private", &ALLOW_READ.replace("\"*\",\"Act", &format!("{principal},\"Act")))
        };
        for account in ["owner", "other"] {
            let by_account = to(&format!("{{\"AWS\":\"arn:aws:iam::{account}:root\"}}"));
            assert!(!decide(&user(account, ""), "s3:GetObject", "k", &by_account, here), "{account}");
            assert!(decide(&user(account, MAY_ALL), "s3:GetObject", "k", &by_account, here), "{account}");
            assert!(decide(&root(account), "s3:GetObject", "k", &by_account, here), "{account}");
        }
        assert!(decide(
            &user("owner", ""),
            "s3:GetObject",
            "k",
            &to("{\"AWS\":\"arn:aws:iam::owner:user/ann\"}"),
            here
        ));
        assert!(decide(&user("owner", ""), "s3:GetObject", "k", &to("\"*\""), here));
        assert!(!decide(
            &user("other", ""),
            "s3:GetObject",
            "k",
            &to("{\"AWS\":\"arn:aws:iam::other:user/ann\"}"),
            here
        ));
    }

    #[test]
    fn across_accounts() {
        // Both sides must allow; a list can stand for the bucket's policy; the public access block takes either back.
        let tags = TagSet::default();
        let here = ObjectAccess::Present { acl: None, tags: &tags };
        let open = bucket("private", ALLOW_READ);
        assert!(decide(&root("other"), "s3:GetObject", "k", &open, here));
        assert!(!decide(&user("other", ""), "s3:GetObject", "k", &open, here));
        assert!(decide(&user("other", MAY_ALL), "s3:GetObject", "k", &open, here));
        assert!(decide(&Principal::Anonymous, "s3:GetObject", "k", &open, here));
        assert!(!decide(&Principal::Anonymous, "s3:GetObjectVersion", "k", &open, here));
        assert!(!decide(&Principal::Anonymous, "s3:PutObject", "k", &open, ObjectAccess::Unknown));
        let restricted = BucketAccess {
            block: PublicAccessBlock { restrict_public_buckets: true, ..Default::default() },
            ..open
        };
        assert!(!decide(&root("other"), "s3:GetObject", "k", &restricted, here));
        let writable = bucket("public-read-write", "");
        assert!(decide(&Principal::Anonymous, "s3:PutObject", "k", &writable, ObjectAccess::Unknown));
        assert!(decide(&root("other"), "s3:ListBucket", "", &writable, ObjectAccess::Unknown));
        assert!(!decide(&root("other"), "s3:GetBucketPolicy", "", &writable, ObjectAccess::Unknown));
        assert!(!decide(&root("other"), "s3:GetObject", "k", &writable, here));
        let ignored = BucketAccess {
            block: PublicAccessBlock { ignore_public_acls: true, ..Default::default() },
            ..writable.clone()
        };
        assert!(!decide(&root("other"), "s3:ListBucket", "", &ignored, ObjectAccess::Unknown));
        let enforced = BucketAccess { ownership: ObjectOwnership::BucketOwnerEnforced, ..writable };
        assert!(!decide(&root("other"), "s3:ListBucket", "", &enforced, ObjectAccess::Unknown));
    }

    #[test]
    fn no_policy_gives_itself_away() {
        // Whoever is allowed everything may still not read, change or remove the policy, unless it is of the owner's account.
        let all =
            "{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"s3:*\",\"Resource\":\"arn:aws:s3:::b\"}";
        let (open, unknown) = (bucket("private", all), ObjectAccess::Unknown);
        let strangers = [root("other"), user("other", MAY_ALL), Principal::Anonymous];
        for action in ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"] {
            for stranger in &strangers {
                assert!(!decide(stranger, action, "", &open, unknown), "{stranger:?} {action}");
            }
            assert!(decide(&user("owner", ""), action, "", &open, unknown));
        }
        assert!(strangers.iter().all(|stranger| decide(stranger, "s3:ListBucket", "", &open, unknown)));
    }

    #[test]
    fn an_object_is_its_writers() {
        // Where lists have a say the bucket's owner and its policy do not reach what another account wrote.
        let tags = TagSet::default();
        let (theirs, public) = (canned("other", "private"), canned("other", "public-read"));
        let open = bucket("private", ALLOW_READ);
        let present = |acl| ObjectAccess::Present { acl: Some(acl), tags: &tags };
        assert!(decide(&root("other"), "s3:GetObject", "k", &open, present(&theirs)));
        assert!(!decide(&root("owner"), "s3:GetObject", "k", &open, present(&theirs)));
        assert!(!decide(&Principal::Anonymous, "s3:GetObject", "k", &open, present(&theirs)));
        assert!(decide(&Principal::Anonymous, "s3:GetObject", "k", &open, present(&public)));
        assert!(decide(&root("owner"), "s3:DeleteObject", "k", &open, ObjectAccess::Unknown));
        let enforced = BucketAccess { ownership: ObjectOwnership::BucketOwnerEnforced, ..open };
        assert!(decide(&root("owner"), "s3:GetObject", "k", &enforced, present(&theirs)));
    }

    #[test]
    fn absence_is_told_to_those_who_may_list() {
        // Others are told that they may not, whatever is there.
        let open = bucket("private", ALLOW_READ);
        assert!(decide(&root("owner"), "s3:GetObject", "k", &open, ObjectAccess::Absent));
        assert!(!decide(&Principal::Anonymous, "s3:GetObject", "k", &open, ObjectAccess::Absent));
        let listed = bucket("public-read", "");
        assert!(decide(&Principal::Anonymous, "s3:GetObject", "k", &listed, ObjectAccess::Absent));
    }

    #[test]
    fn an_object_is_looked_at_when_it_matters() {
        // Not for what is written, nor where the bucket's owner owns everything and no policy asks for tags.
        let of = |bucket: &BucketAccess, action| {
            let (resource, facts) = (
                Resource::Object { bucket: "b".into(), key: "k".into() },
                RequestFacts::ready(Facts::default()),
            );
            let principal = root("owner");
            Policies::default().decide(&Access {
                principal: &principal,
                action,
                is_secondary: false,
                resource: &resource,
                bucket: Some(bucket),
                object: ObjectAccess::Unknown,
                facts: &facts,
            })
        };
        let lists = bucket("private", "");
        assert_eq!(of(&lists, "s3:GetObject"), Decision::LookAtObject);
        assert_eq!(of(&lists, "s3:PutObject"), Decision::Allow);
        let enforced = BucketAccess { ownership: ObjectOwnership::BucketOwnerEnforced, ..lists };
        assert_eq!(of(&enforced, "s3:GetObject"), Decision::Allow);
        let by_tag =
            ALLOW_READ.replace('}', ",\"Condition\":{\"StringEquals\":{\"s3:ExistingObjectTag/a\":\"b\"}}}");
        let enforced = BucketAccess { policy: bucket("private", &by_tag).policy, ..enforced };
        assert_eq!(of(&enforced, "s3:GetObject"), Decision::LookAtObject);
    }
}
