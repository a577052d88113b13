//! What each operation takes: the members, their types and their limits. Two passes read it, in the order in which Amazon
//! reports: [`check_types`](types::check_types), then [`validate`](validate::validate).

pub(crate) mod operations;
pub(crate) mod types;
pub(crate) mod validate;

use crate::value::Value;

/// A member of a request.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its name on the wire.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Its limits, in the order in which breaches are reported.
    pub(crate) rules: &'static [Rule],
}

/// The type of a member.
#[derive(Debug)]
pub(crate) enum Kind {
    Text,
    Integer,
    Boolean,
    Blob,
    Time,
    /// A list, and how one of its members is printed where that is not the member itself.
    List(&'static Field, Option<&'static str>),
    /// A map from text.
    Map(&'static Field),
    Struct(&'static [Field]),
}

/// A limit of a member.
#[derive(Debug)]
pub(crate) enum Rule {
    NotNull,
    /// Must not be null unless the request says otherwise.
    NotNullUnless(fn(&Value<'_>) -> bool),
    AtLeast(i64),
    AtMost(i64),
    /// In characters of text, bytes of a blob, members of a list or map.
    LongerThan(usize),
    ShorterThan(usize),
    Matches(Pattern),
    OneOf(&'static [&'static str]),
    /// Lengths of a list's members, both ends included.
    MemberLengths(usize, usize),
    KeyLengths(usize, usize),
    ValueLengths(usize, usize),
}

/// The three patterns of the API.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pattern {
    Name,
    HashKey,
    Sequence,
}

impl Pattern {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Name => "[a-zA-Z0-9_.-]+",
            Self::HashKey => "0|([1-9]\\d{0,38})",
            Self::Sequence => "0|([1-9]\\d{0,128})",
        }
    }

    pub(crate) fn matches(self, text: &str) -> bool {
        let is_number = |digits: usize| {
            text == "0"
                || ((1..=digits).contains(&text.len())
                    && !text.starts_with('0')
                    && text.bytes().all(|byte| byte.is_ascii_digit()))
        };
        match self {
            Self::Name => {
                !text.is_empty()
                    && text
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
            }
            Self::HashKey => is_number(39),
            Self::Sequence => is_number(129),
        }
    }
}
