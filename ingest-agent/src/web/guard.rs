//! What holds for every answer: who may ask, and what a browser may do with it.

use std::net::IpAddr;

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse as _, Response},
};

/// Nothing from elsewhere, and no script but the page's own files: a Stream ID that is HTML stays text.
const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; object-src 'none'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    // What is live must not be shown from a cache, and after an upgrade neither page nor script may be the old one.
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// `routes`, guarded.
pub(super) fn around(routes: Router) -> Router {
    routes.layer(from_fn(guard))
}

async fn guard(request: Request, next: Next) -> Response {
    let mut response = if is_ours(request.headers()) {
        next.run(request).await
    } else {
        let text = "the Host must be an IP address or localhost\n";
        (StatusCode::MISDIRECTED_REQUEST, text).into_response()
    };
    response.headers_mut().extend(HEADERS);
    response
}

/// A name that some site's DNS makes point here is how that site's scripts would read us; an address is none.
fn is_ours(headers: &HeaderMap) -> bool {
    headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .is_some_and(is_address)
}

fn is_address(host: &str) -> bool {
    let name = if let Some(rest) = host.strip_prefix('[') {
        rest.split_once(']').map_or("", |(address, _)| address)
    } else {
        host.split_once(':').map_or(host, |(name, _)| name)
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_ours() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9465",
            "[::1]",
            "[::1]:9465",
            "localhost",
            "LOCALHOST:80",
            "192.0.2.7:9465",
        ] {
            assert!(is_address(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9465",
            "127.0.0.1.evil.example",
            "[::1",
            "localhost.evil.example",
            "[evil]:1",
        ] {
            assert!(!is_address(host), "{host}");
        }
    }
}
