use axum::body::Body;
use axum::http::Request;

use crate::support::{Answer, Host, TOKEN};

async fn ask(host: &Host, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    host.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn without_the_token_nothing_under_v1_answers() {
    let host = Host::start().await;
    for path in ["/v1", "/v1/status", "/v1/no-such-thing", "/v1/tail"] {
        let answer = ask(&host, path, &[]).await;
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"sandbar\"");
        answer.problem(401, "unauthorized");
        ask(&host, path, &[("authorization", "Bearer wrong")]).await.problem(401, "unauthorized");
        ask(&host, path, &[("authorization", TOKEN)]).await.problem(401, "unauthorized");
    }
    // A token in the address would be in every log.
    ask(&host, &format!("/v1/status?token={TOKEN}"), &[]).await.problem(401, "unauthorized");
    host.get("/v1/status").await.done();
    host.end().await;
}

#[tokio::test]
async fn health_metrics_and_the_document_need_no_token() {
    let host = Host::start().await;
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/",
        "/dashboard.js",
        "/devices.js",
        "/dashboard.css",
    ] {
        assert_eq!(ask(&host, path, &[]).await.status, 200, "{path}");
    }
    host.end().await;
}

#[tokio::test]
async fn the_sign_in_link_buys_a_cookie_that_works_at_this_host_only() {
    let host = Host::start().await;
    let here = ("host", "127.0.0.1:7420");
    ask(&host, "/?token=wrong", &[here]).await.problem(401, "unauthorized");
    let answer = ask(&host, &format!("/?token={TOKEN}"), &[here]).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/"));
    let set = answer.header("set-cookie");
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && !set.contains(TOKEN), "{set}");
    let cookie = ("cookie", set.split(';').next().unwrap());

    ask(&host, "/v1/status", &[here, cookie]).await.done();
    let own = ("origin", "http://127.0.0.1:7420");
    ask(&host, "/v1/status", &[here, cookie, own, ("sec-fetch-site", "same-origin")]).await.done();
    for foreign in [
        vec![("host", "evil.example:7420"), cookie],
        vec![("host", "127.0.0.1:7421"), cookie],
        vec![here, cookie, ("origin", "http://evil.example")],
        vec![here, cookie, ("origin", "null")],
        vec![here, cookie, ("sec-fetch-site", "cross-site")],
        vec![here, ("cookie", "sandbar=00")],
    ] {
        ask(&host, "/v1/status", &foreign).await.problem(401, "unauthorized");
    }
    host.end().await;
}

#[tokio::test]
async fn the_dashboard_loads_nothing_from_elsewhere() {
    let host = Host::start().await;
    let page = ask(&host, "/", &[]).await;
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let text = String::from_utf8(page.bytes.to_vec()).unwrap();
    for inline in ["<script>", "<style", "style=", "onclick", "http://", "https://"] {
        assert!(!text.contains(inline), "{inline}");
    }
    host.end().await;
}
