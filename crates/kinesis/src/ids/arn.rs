//! Amazon resource names of streams and their consumers.

/// What an ARN of this service names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arn<'a> {
    pub(crate) region: &'a str,
    pub(crate) account: &'a str,
    pub(crate) stream: &'a str,
    /// The consumer's name and creation in seconds, where it is a consumer's.
    pub(crate) consumer: Option<(&'a str, i64)>,
}

/// The ARN of a stream.
pub(crate) fn stream(region: &str, account: &str, stream: &str) -> String {
    format!("arn:{}:kinesis:{region}:{account}:stream/{stream}", partition(region))
}

/// The part of Amazon's world that a region is in.
fn partition(region: &str) -> &'static str {
    let known =
        [("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"), ("us-iso-", "aws-iso"), ("us-isob-", "aws-iso-b")];
    let found = known.into_iter().find(|(prefix, _)| region.starts_with(prefix));
    found.map_or("aws", |(_, partition)| partition)
}

/// The ARN of a consumer.
pub(crate) fn consumer(stream_arn: &str, name: &str, created_ms: i64) -> String {
    format!("{stream_arn}/consumer/{name}:{}", created_ms.div_euclid(1000))
}

/// Reads an ARN of a stream or a consumer; `None` for anything else.
pub(crate) fn parse(arn: &str) -> Option<Arn<'_>> {
    let mut parts = arn.splitn(6, ':');
    let (prefix, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
    if prefix != "arn" || !partition.starts_with("aws") || service != "kinesis" {
        return None;
    }
    let (stream, consumer) = match resource.strip_prefix("stream/")?.split_once("/consumer/") {
        None => (resource.strip_prefix("stream/")?, None),
        Some((stream, consumer)) => {
            let (name, created_s) = consumer.rsplit_once(':')?;
            (stream, Some((name, created_s.parse().ok()?)))
        }
    };
    Some(Arn { region, account, stream, consumer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_of_streams_and_consumers_read_back() {
        let arn = stream("eu-west-1", "000000000000", "s.x-1");
        let parsed = parse(&arn).unwrap();
        assert_eq!((parsed.region, parsed.account, parsed.stream), ("eu-west-1", "000000000000", "s.x-1"));
        for (region, partition) in
            [("us-east-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
        {
            let arn = stream(region, "000000000000", "s");
            assert!(arn.starts_with(&format!("arn:{partition}:kinesis:{region}:")), "{arn}");
            assert_eq!(parse(&arn).unwrap().region, region);
        }
        let consumer = consumer(&arn, "c", 1_733_333_333_999);
        assert_eq!(parse(&consumer).unwrap().consumer, Some(("c", 1_733_333_333)));
        for text in [
            "",
            "s",
            "arn:aws:s3:::b",
            "arn:aws:kinesis:r:a:table/x",
            "arn:aws:kinesis:r:a:stream/s/consumer/c",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
