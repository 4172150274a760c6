//! The page's own files, as they are read and served: nothing is built of them.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use super::Page;

macro_rules! assets {
    ($($path:literal => $file:literal, $kind:literal;)*) => {
        /// Path, type and content of each file.
        const ASSETS: &[(&str, &str, &str)] =
            &[$(($path, $kind, include_str!(concat!("../../page/", $file))),)*];
    };
}

assets! {
    "/" => "index.html", "text/html; charset=utf-8";
    "/style.css" => "style.css", "text/css; charset=utf-8";
    "/icon.svg" => "icon.svg", "image/svg+xml";
    "/main.js" => "main.js", "text/javascript; charset=utf-8";
    "/dom.js" => "dom.js", "text/javascript; charset=utf-8";
    "/server.js" => "server.js", "text/javascript; charset=utf-8";
    "/words.js" => "words.js", "text/javascript; charset=utf-8";
    "/theme.js" => "theme.js", "text/javascript; charset=utf-8";
    "/map.js" => "map.js", "text/javascript; charset=utf-8";
    "/flows.js" => "flows.js", "text/javascript; charset=utf-8";
    "/detail.js" => "detail.js", "text/javascript; charset=utf-8";
    "/layout.js" => "layout.js", "text/javascript; charset=utf-8";
    "/drops.js" => "drops.js", "text/javascript; charset=utf-8";
    "/node.js" => "node.js", "text/javascript; charset=utf-8";
    "/cache.js" => "cache.js", "text/javascript; charset=utf-8";
    "/policies.js" => "policies.js", "text/javascript; charset=utf-8";
}

pub(super) fn routes() -> Router<Page> {
    ASSETS.iter().fold(Router::new(), |router, &(path, kind, content)| {
        router.route(
            path,
            get(move || async move { ([(header::CONTENT_TYPE, kind)], content).into_response() }),
        )
    })
}

#[cfg(test)]
mod tests {
    use model::DropReason;

    use super::*;

    fn content(path: &str) -> &'static str {
        ASSETS.iter().find(|(own, _, _)| *own == path).unwrap().2
    }

    #[test]
    fn what_a_file_imports_or_links_to_is_served() {
        for (path, _, content) in ASSETS {
            for quoted in content
                .split(['"', '\''])
                .filter(|text| text.ends_with(".js") || text.ends_with(".css"))
            {
                let target = quoted.trim_start_matches('.');
                assert!(ASSETS.iter().any(|(own, _, _)| *own == target), "{path} names {quoted}");
            }
        }
    }

    #[test]
    fn nothing_is_put_into_the_page_as_markup_or_asked_of_others() {
        for (path, _, content) in ASSETS {
            for forbidden in [
                "innerHTML",
                "outerHTML",
                "insertAdjacent",
                "document.write",
                "eval(",
                "https://",
                " style=",
                "onclick=",
            ] {
                assert!(!content.contains(forbidden), "{path} has {forbidden}");
            }
        }
    }

    #[test]
    fn every_reason_of_a_drop_is_put_into_words() {
        for reason in DropReason::ALL {
            let entry = format!("\"{reason}\":");
            assert!(content("/words.js").contains(&entry), "page/words.js lacks {entry}");
        }
    }
}
