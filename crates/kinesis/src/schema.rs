//! What each operation takes: the members, their types and their limits. Two passes read it, in the order in which Amazon
//! reports: [`check_types`](types::check_types), then [`validate`](validate::validate).

pub(crate) mod operations;
pub(crate) mod types;
pub(crate) mod validate;

use std::sync::LazyLock;

use regex::Regex;

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

/// The patterns of the API.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pattern {
    Name,
    HashKey,
    Sequence,
    StreamArn,
    ConsumerArn,
    ResourceArn,
    StreamId,
}

impl Pattern {
    /// As messages have it: the form that Java takes.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Name => "[a-zA-Z0-9_.-]+",
            Self::HashKey => r"0|([1-9]\d{0,38})",
            Self::Sequence => r"0|([1-9]\d{0,128})",
            Self::StreamArn => r"arn:aws.*:kinesis:.*:\d{12}:stream/\S+",
            Self::ConsumerArn => {
                r"^(arn):aws.*:kinesis:.*:\d{12}:.*stream\/[a-zA-Z0-9_.-]+\/consumer\/[a-zA-Z0-9_.-]+:[0-9]+"
            }
            Self::ResourceArn => r"arn:aws.*:kinesis:.*:\d{12}:.*(stream|channel|queue)/\S+",
            Self::StreamId => "[a-z0-9]{20}-[a-z0-9]{3}",
        }
    }

    /// True where all of the text is of the pattern.
    pub(crate) fn matches(self, text: &str) -> bool {
        static STREAM_ARN: LazyLock<Option<Regex>> = LazyLock::new(|| Pattern::StreamArn.compile());
        static CONSUMER_ARN: LazyLock<Option<Regex>> = LazyLock::new(|| Pattern::ConsumerArn.compile());
        static RESOURCE_ARN: LazyLock<Option<Regex>> = LazyLock::new(|| Pattern::ResourceArn.compile());
        static STREAM_ID: LazyLock<Option<Regex>> = LazyLock::new(|| Pattern::StreamId.compile());
        let is_number = |digits: usize| {
            text == "0"
                || ((1..=digits).contains(&text.len())
                    && !text.starts_with('0')
                    && text.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let regex = match self {
            // Those of every put are matched by hand.
            Self::Name => {
                let is_of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
                return !text.is_empty() && text.bytes().all(is_of_a_name);
            }
            Self::HashKey => return is_number(39),
            Self::Sequence => return is_number(129),
            Self::StreamArn => &STREAM_ARN,
            Self::ConsumerArn => &CONSUMER_ARN,
            Self::ResourceArn => &RESOURCE_ARN,
            Self::StreamId => &STREAM_ID,
        };
        regex.as_ref().is_some_and(|regex| regex.is_match(text))
    }

    /// A test sees to it that there is none that does not compile.
    fn compile(self) -> Option<Regex> {
        // Java's digits are those of ASCII.
        Regex::new(&format!("^(?:{})$", self.text().replace(r"\d", "[0-9]"))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_takes_what_it_says_and_nothing_around_it() {
        let stream = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
        let consumer = "arn:aws-cn:kinesis:cn-north-1:123456789012:stream/s/consumer/c:1733333333";
        let queue = "arn:aws:kinesis:us-east-1:000000000000:queue/q";
        let id = "abcdefghij0123456789-a1z";
        for (pattern, taken, refused) in [
            (Pattern::Name, &["a", "A_.-9"][..], &["", "a b", "ü"][..]),
            (Pattern::HashKey, &["0", "1", &"9".repeat(39)], &["", "01", "-1", &"9".repeat(40)]),
            (Pattern::Sequence, &["0", &"9".repeat(129)], &["00", &"9".repeat(130)]),
            (
                Pattern::StreamArn,
                &[stream, consumer],
                &["", "s", queue, &stream[..46], &format!("x{stream}")],
            ),
            (Pattern::ConsumerArn, &[consumer], &[stream, queue, &consumer[..consumer.len() - 10]]),
            (
                Pattern::ResourceArn,
                &[stream, consumer, queue],
                &["", "arn:aws:s3:::b", &format!("{stream} ")],
            ),
            (Pattern::StreamId, &[id], &["", &id[1..], &format!("{id}0"), &id.to_uppercase()]),
        ] {
            for text in taken {
                assert!(pattern.matches(text), "{pattern:?} {text}");
            }
            for text in refused {
                assert!(!pattern.matches(text), "{pattern:?} {text}");
            }
        }
    }
}
