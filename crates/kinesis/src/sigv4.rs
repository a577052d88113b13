//! AWS Signature Version 4: what every request must carry, in its header or its query, and its verification.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hmac::{Hmac, Mac};
use http::{HeaderMap, Method, Uri};
use sha2::{Digest, Sha256};

use crate::config::Secret;
use crate::error::ApiError;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far a request's time may be from ours, in seconds.
const TOLERANCE_S: i64 = 300;

/// The parts of a request that a signature covers.
#[derive(Debug)]
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// A signature as a request carries it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Authorization {
    /// `key/date/region/service/aws4_request`.
    credential: String,
    signature: String,
    signed_headers: String,
    /// `20260101T000000Z`, or what a `Date` header has.
    date: String,
    /// How long a signature in the query is good for, in seconds.
    expires_s: Option<i64>,
}

impl Authorization {
    /// The region that the request was signed for, where the credential has its five parts.
    pub(crate) fn region(&self) -> Option<&str> {
        let mut parts = self.credential.rsplitn(5, '/');
        let region = parts.nth(2)?;
        parts.nth(1).map(|_| region)
    }
}

/// Reads the signature of a request and checks that it is whole; it says nothing about its truth.
///
/// # Errors
/// `InvalidSignatureException` for two signatures, `MissingAuthenticationTokenException` for none,
/// `IncompleteSignatureException` for a part of one.
pub(crate) fn read(uri: &Uri, headers: &HeaderMap) -> Result<Authorization, ApiError> {
    let query = query_pairs(uri);
    let header =
        headers.get(http::header::AUTHORIZATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
    match (header, query.contains_key("X-Amz-Algorithm")) {
        (Some(_), true) => Err(ApiError::client(
            "InvalidSignatureException",
            "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.",
        )),
        (None, false) => {
            Err(ApiError::client("MissingAuthenticationTokenException", "Missing Authentication Token"))
        }
        (Some(header), false) => read_header(&header, headers),
        (None, true) => read_query(&query),
    }
}

fn read_header(header: &str, headers: &HeaderMap) -> Result<Authorization, ApiError> {
    let parts = header.split([',', ' ']).skip(1).filter_map(|part| part.trim().split_once('='));
    let mut parts: BTreeMap<&str, &str> = parts.filter(|(_, value)| !value.is_empty()).collect();
    let mut missing = String::new();
    for name in ["Credential", "Signature", "SignedHeaders"] {
        if !parts.contains_key(name) {
            let _ = write!(missing, "Authorization header requires '{name}' parameter. ");
        }
    }
    let date = ["x-amz-date", "date"].into_iter().find_map(|name| headers.get(name)?.to_str().ok());
    if date.is_none() {
        missing.push_str(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ",
        );
    }
    if !missing.is_empty() {
        return Err(ApiError::client(
            "IncompleteSignatureException",
            format!("{missing}Authorization={header}"),
        ));
    }
    let mut take = |name: &str| parts.remove(name).unwrap_or_default().to_owned();
    Ok(Authorization {
        credential: take("Credential"),
        signature: take("Signature"),
        signed_headers: take("SignedHeaders"),
        date: date.unwrap_or_default().to_owned(),
        expires_s: None,
    })
}

fn read_query(query: &BTreeMap<String, String>) -> Result<Authorization, ApiError> {
    let mut missing = String::new();
    for name in
        ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"]
    {
        if query.get(name).is_none_or(String::is_empty) {
            let _ = write!(missing, "AWS query-string parameters must include '{name}'. ");
        }
    }
    if !missing.is_empty() {
        let message = format!("{missing}Re-examine the query-string parameters.");
        return Err(ApiError::client("IncompleteSignatureException", message));
    }
    let take = |name: &str| query.get(name).cloned().unwrap_or_default();
    Ok(Authorization {
        credential: take("X-Amz-Credential"),
        signature: take("X-Amz-Signature"),
        signed_headers: take("X-Amz-SignedHeaders"),
        date: take("X-Amz-Date"),
        expires_s: query.get("X-Amz-Expires").and_then(|seconds| seconds.parse().ok()),
    })
}

/// Verifies a signature against the secrets there are; without a region, for whichever it was made.
///
/// # Errors
/// `UnrecognizedClientException` for an unknown key, `InvalidSignatureException` for anything that does not fit.
pub(crate) fn verify(
    request: &Signed<'_>,
    authorization: &Authorization,
    keys: &BTreeMap<String, Secret>,
    region: Option<&str>,
    now_ms: i64,
) -> Result<(), ApiError> {
    let invalid = |message: String| ApiError::client("InvalidSignatureException", message);
    let mut scope = authorization.credential.rsplitn(5, '/');
    let (Some("aws4_request"), Some(service), Some(scope_region), Some(day), Some(key)) =
        (scope.next(), scope.next(), scope.next(), scope.next(), scope.next())
    else {
        let message =
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term";
        return Err(ApiError::client("IncompleteSignatureException", message));
    };
    let secret = keys.get(key).ok_or_else(|| {
        ApiError::client(
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        )
    })?;
    if region.is_some_and(|region| region != scope_region) {
        return Err(invalid(format!(
            "Credential should be scoped to a valid region, not '{scope_region}'. "
        )));
    }
    if service != "kinesis" {
        return Err(invalid("Credential should be scoped to correct service: 'kinesis'. ".to_owned()));
    }
    check_time(authorization, day, now_ms).map_err(invalid)?;
    let canonical = canonical_request(request, authorization);
    let scope = format!("{day}/{scope_region}/{service}/aws4_request");
    let to_sign =
        format!("{ALGORITHM}\n{}\n{scope}\n{}", authorization.date, hex(&Sha256::digest(canonical)));
    let key = signing_key(secret, day, scope_region, service);
    let given = unhex(&authorization.signature).unwrap_or_default();
    // Compared in constant time.
    mac(&key, to_sign.as_bytes()).verify_slice(&given).map_err(|_| {
        invalid(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key \
             and signing method. Consult the service documentation for details."
                .to_owned(),
        )
    })
}

fn check_time(authorization: &Authorization, day: &str, now_ms: i64) -> Result<(), String> {
    let date = &authorization.date;
    let parsed = chrono::NaiveDateTime::parse_from_str(date, "%Y%m%dT%H%M%SZ");
    let signed_s =
        parsed.map_err(|_| "Date must be in ISO-8601 'basic format'.".to_owned())?.and_utc().timestamp();
    if !date.starts_with(day) {
        return Err(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{day}' != '{}'.",
            date.get(..8).unwrap_or(date)
        ));
    }
    let now_s = now_ms.div_euclid(1000);
    let (now, tolerance) = (compact(now_s), TOLERANCE_S / 60);
    let lifetime_s = authorization.expires_s.unwrap_or(TOLERANCE_S);
    if signed_s + lifetime_s < now_s {
        let earliest = compact(now_s - lifetime_s);
        return Err(format!(
            "Signature expired: {date} is now earlier than {earliest} ({now} - {tolerance} min.)"
        ));
    }
    if signed_s > now_s + TOLERANCE_S {
        let latest = compact(now_s + TOLERANCE_S);
        return Err(format!(
            "Signature not yet current: {date} is still later than {latest} ({now} + {tolerance} min.)"
        ));
    }
    Ok(())
}

fn compact(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default().format("%Y%m%dT%H%M%SZ").to_string()
}

/// The text whose hash is signed.
fn canonical_request(request: &Signed<'_>, authorization: &Authorization) -> String {
    let mut text = format!("{}\n", request.method);
    let path = request.uri.path();
    // Encoded once more than it came, as every service but S3 has it.
    let encoded: Vec<_> = path.split('/').map(|segment| encode(segment.as_bytes())).collect();
    let _ = writeln!(text, "{}", encoded.join("/"));
    let mut query: Vec<_> = query_list(request.uri)
        .into_iter()
        .filter(|(name, _)| name != "X-Amz-Signature")
        .map(|(name, value)| (encode(name.as_bytes()), encode(value.as_bytes())))
        .collect();
    query.sort();
    let query: Vec<_> = query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let _ = writeln!(text, "{}", query.join("&"));
    for name in authorization.signed_headers.split(';') {
        let _ = writeln!(text, "{name}:{}", header_value(request, name));
    }
    let _ = write!(text, "\n{}\n{}", authorization.signed_headers, hex(&Sha256::digest(request.body)));
    text
}

fn header_value(request: &Signed<'_>, name: &str) -> String {
    let values = request.headers.get_all(name).iter();
    let values: Vec<_> = values.map(|value| squeeze(&String::from_utf8_lossy(value.as_bytes()))).collect();
    // HTTP/2 has its host in the request's target.
    if name == "host" && values.is_empty() {
        return request.uri.authority().map(ToString::to_string).unwrap_or_default();
    }
    values.join(",")
}

/// Runs of blanks become one, those at the ends go.
fn squeeze(value: &str) -> String {
    value.split(' ').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn signing_key(secret: &Secret, day: &str, region: &str, service: &str) -> Vec<u8> {
    let start = format!("AWS4{}", secret.expose()).into_bytes();
    [day, region, service, "aws4_request"]
        .iter()
        .fold(start, |key, part| mac(&key, part.as_bytes()).finalize().into_bytes().to_vec())
}

fn mac(key: &[u8], message: &[u8]) -> Hmac<Sha256> {
    // A key of any length is taken; the fall-back is never reached.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&Default::default()));
    mac.update(message);
    mac
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..32).map(|n| u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()).collect()
}

/// Percent-encodes everything that RFC 3986 does not call unreserved.
fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len()), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let code = text
            .get(at + 1..at + 3)
            .filter(|_| *byte == b'%')
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        decoded.push(code.unwrap_or(if *byte == b'+' { b' ' } else { *byte }));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn query_list(uri: &Uri) -> Vec<(String, String)> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// The query's parameters; of a name that repeats, the last one.
pub(crate) fn query_pairs(uri: &Uri) -> BTreeMap<String, String> {
    query_list(uri).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // From Amazon's published test suite for this signature: its key, its time, its `post-vanilla` and `get-vanilla-query`.
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn authorization(signed_headers: &str) -> Authorization {
        Authorization {
            credential: "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request".to_owned(),
            signature: String::new(),
            signed_headers: signed_headers.to_owned(),
            date: "20150830T123600Z".to_owned(),
            expires_s: None,
        }
    }

    fn signature(method: &Method, uri: &'static str) -> String {
        let headers = headers(&[("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")]);
        let uri = Uri::from_static(uri);
        let request = Signed { method, uri: &uri, headers: &headers, body: b"" };
        let canonical = canonical_request(&request, &authorization("host;x-amz-date"));
        let scope = "20150830/us-east-1/service/aws4_request";
        let to_sign = format!("{ALGORITHM}\n20150830T123600Z\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let key = signing_key(&Secret::new(SECRET), "20150830", "us-east-1", "service");
        hex(&mac(&key, to_sign.as_bytes()).finalize().into_bytes())
    }

    #[test]
    fn signatures_of_the_published_suite_come_out() {
        assert_eq!(
            signature(&Method::POST, "/"),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
        assert_eq!(
            signature(&Method::GET, "/?Param1=value1&Param2=value2"),
            signature(&Method::GET, "/?Param2=value2&Param1=value1")
        );
        assert_eq!(
            signature(&Method::GET, "/?Param2=value2&Param1=value1"),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"
        );
    }

    #[test]
    fn what_is_missing_is_listed() {
        let uri = Uri::from_static("/");
        let message = |uri: &Uri, headers: &HeaderMap| {
            let error = read(uri, headers).unwrap_err();
            (error.kind, error.message.unwrap())
        };
        assert_eq!(
            message(&uri, &HeaderMap::new()),
            ("MissingAuthenticationTokenException", "Missing Authentication Token".to_owned())
        );
        assert_eq!(
            message(&uri, &headers(&[("authorization", "AWS4-HMAC-SHA256 Signature=b")])),
            (
                "IncompleteSignatureException",
                "Authorization header requires 'Credential' parameter. Authorization header requires 'SignedHeaders' \
                 parameter. Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. \
                 Authorization=AWS4-HMAC-SHA256 Signature=b"
                    .to_owned()
            )
        );
        let query = Uri::from_static("/?X-Amz-Algorithm=a&X-Amz-Signature=b");
        assert_eq!(
            message(&query, &HeaderMap::new()),
            (
                "IncompleteSignatureException",
                "AWS query-string parameters must include 'X-Amz-Credential'. AWS query-string parameters must include \
                 'X-Amz-SignedHeaders'. AWS query-string parameters must include 'X-Amz-Date'. Re-examine the query-string \
                 parameters."
                    .to_owned()
            )
        );
        let both = message(&query, &headers(&[("authorization", "x")]));
        assert_eq!(both.0, "InvalidSignatureException");
    }
}
