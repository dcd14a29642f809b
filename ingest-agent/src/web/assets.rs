//! The files of the page.

use axum::{Router, http::header, routing::get};

/// Path, media type, content.
const FILES: &[(&str, &str, &str)] = &[
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("assets/index.html"),
    ),
    (
        "/style.css",
        "text/css; charset=utf-8",
        include_str!("assets/style.css"),
    ),
    (
        "/icon.svg",
        "image/svg+xml",
        include_str!("assets/icon.svg"),
    ),
    ("/main.js", SCRIPT, include_str!("assets/main.js")),
    ("/api.js", SCRIPT, include_str!("assets/api.js")),
    ("/format.js", SCRIPT, include_str!("assets/format.js")),
    ("/dom.js", SCRIPT, include_str!("assets/dom.js")),
    ("/chart.js", SCRIPT, include_str!("assets/chart.js")),
    ("/overview.js", SCRIPT, include_str!("assets/overview.js")),
    ("/tables.js", SCRIPT, include_str!("assets/tables.js")),
    ("/streams.js", SCRIPT, include_str!("assets/streams.js")),
    ("/detail.js", SCRIPT, include_str!("assets/detail.js")),
];

const SCRIPT: &str = "text/javascript; charset=utf-8";

pub(super) fn router() -> Router {
    FILES
        .iter()
        .fold(Router::new(), |router, (path, kind, text)| {
            let answer = ([(header::CONTENT_TYPE, *kind)], *text);
            router.route(path, get(move || async move { answer }))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_make_no_html_of_strings_and_load_nothing_from_elsewhere() {
        for (path, _, text) in FILES {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "javascript:",
            ] {
                assert!(!text.contains(word), "{word} in {path}");
            }
            let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains("://"), "an address in {path}");
        }
    }
}
