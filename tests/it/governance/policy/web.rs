//! Is a bundle fetched from a web server once, when it has changed, and from nobody who lies?

use std::{sync::Arc, time::Duration};

use agentbus::policy::{BundleSource as _, WebBundles, bundle::PACKED_BYTES_MAX};
use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};

/// What the server has now.
type Shelf = Arc<watch::Sender<&'static str>>;

/// As OPA's documentation has it: an ETag, and an answer that is held back until there is another.
async fn serve(State(shelf): State<Shelf>, Path(how): Path<String>, headers: HeaderMap) -> Response {
    let given = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    match how.as_str() {
        "huge" => return vec![0_u8; PACKED_BYTES_MAX + 1].into_response(),
        "gone" => return StatusCode::NOT_FOUND.into_response(),
        "moved" => return (StatusCode::FOUND, [("location", "/good")]).into_response(),
        _ => {}
    }
    if given("authorization").as_deref() != Some("Bearer hunter2") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let wait = given("prefer").unwrap().strip_prefix("modes=snapshot;wait=").unwrap().parse().unwrap();
    let mut seen = shelf.subscribe();
    if given("if-none-match").as_deref() == Some(*seen.borrow_and_update()) {
        let changed = tokio::time::timeout(Duration::from_secs(wait), seen.changed()).await;
        if changed.is_err() {
            return StatusCode::NOT_MODIFIED.into_response();
        }
    }
    let now = *seen.borrow();
    ([("etag", now), ("content-type", "application/vnd.openpolicyagent.bundles")], now).into_response()
}

#[tokio::test]
async fn a_web_server_tells_of_a_bundle_once_and_of_the_next_at_once() {
    let shelf: Shelf = Arc::new(watch::Sender::new("\"one\""));
    let app = Router::new().route("/{how}", get(serve)).with_state(Arc::clone(&shelf));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let source = |how: &str, token| WebBundles::open(&format!("http://{address}/{how}"), token).unwrap();

    let bundles = Arc::new(source("good", Some("hunter2\n")));
    assert_eq!(bundles.next().await.unwrap().unwrap().packed, "\"one\"");
    let waiting = tokio::spawn({
        let bundles = Arc::clone(&bundles);
        async move { bundles.next().await.unwrap().unwrap().packed }
    });
    // The question is held back there, as long as nothing else is on the shelf.
    while shelf.receiver_count() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!waiting.is_finished());
    shelf.send_replace("\"two\"");
    assert_eq!(waiting.await.unwrap(), "\"two\"");

    for (how, token, expected) in [
        ("good", None, "answered 401"),
        ("good", Some("wrong"), "answered 401"),
        ("gone", None, "answered 404"),
        ("moved", None, "redirects are not followed"),
        ("huge", None, "more than 8388608 bytes"),
    ] {
        let error = source(how, token).next().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{how}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    server.abort();
    let _ = server.await;
    let nobody = source("good", None).next().await.unwrap_err().to_string();
    assert!(nobody.contains("not reachable"), "{nobody}");
    assert!(WebBundles::open("ftp://host/bundle", None).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_tells_of_a_bundle_each_time_that_it_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.tar.gz");
    let bundles = agentbus::policy::BundleFile::new(path.clone());
    assert!(bundles.next().await.unwrap_err().to_string().contains("bundle.tar.gz cannot be read"));
    for packed in ["one", "number two"] {
        std::fs::write(&path, packed).unwrap();
        assert_eq!(bundles.next().await.unwrap().unwrap().packed, packed);
    }
}
