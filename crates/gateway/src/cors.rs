//! Cross-origin requests of browsers.

use axum::body::Body;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ALLOW,
    HeaderValue, ORIGIN, VARY,
};
use http::{HeaderMap, Response, StatusCode};

use crate::config::Cors;

const METHODS: HeaderValue = HeaderValue::from_static("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT");
/// Browsers ask again after this many seconds; none keeps an answer for longer than a day.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");
const USUAL_HEADERS: HeaderValue = HeaderValue::from_static("accept, authorization, content-type");
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after");

impl Cors {
    /// Tells the browser that a page of `origin` may read `answer`, where it may.
    pub(crate) fn allow(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) -> bool {
        let Some(allowed) = self.allowed(origin) else { return false };
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if matches!(self, Self::Origins(_)) {
            answer.insert(VARY, HeaderValue::from_static("origin"));
        }
        true
    }

    /// The answer to OPTIONS, which a browser sends before it dares the request itself.
    pub(crate) fn preflight(&self, request: &HeaderMap) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ALLOW, METHODS);
        if self.allow(request.get(ORIGIN), headers) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            let asked = request.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.unwrap_or(USUAL_HEADERS));
            headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        }
        response
    }

    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        let origin = origin?;
        match self {
            Self::AnyOrigin => Some(HeaderValue::from_static("*")),
            Self::Origins(allowed) => {
                allowed.iter().any(|allowed| origin.as_bytes() == allowed.as_bytes()).then(|| origin.clone())
            }
            Self::Off => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(origin: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))])
    }

    #[test]
    fn a_preflight_of_an_allowed_page_is_told_what_it_may_do() {
        let mut request = from("https://a.example");
        request.insert(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("content-type,x-trace"));
        let answer = Cors::AnyOrigin.preflight(&request);
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_HEADERS], "content-type,x-trace");
        assert!(answer.headers()[ACCESS_CONTROL_ALLOW_METHODS].to_str().unwrap().contains("POST"));
    }

    #[test]
    fn only_listed_pages_are_allowed() {
        let listed = Cors::Origins(vec!["https://a.example".to_owned()]);
        let mut answer = HeaderMap::new();
        assert!(listed.allow(Some(&HeaderValue::from_static("https://a.example")), &mut answer));
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
        assert_eq!(answer[VARY], "origin");
        for (cors, origin) in
            [(&listed, "https://b.example"), (&listed, "null"), (&Cors::Off, "https://a.example")]
        {
            let mut answer = HeaderMap::new();
            assert!(!cors.allow(Some(&HeaderValue::from_static(origin)), &mut answer));
            assert!(answer.is_empty());
            assert!(!cors.preflight(&from(origin)).headers().contains_key(ACCESS_CONTROL_ALLOW_METHODS));
        }
    }

    #[test]
    fn a_request_that_comes_from_no_page_is_left_alone() {
        let mut answer = HeaderMap::new();
        assert!(!Cors::AnyOrigin.allow(None, &mut answer));
        assert!(answer.is_empty());
    }
}
