//! How the kind `http` describes itself.

use watchbell_contract::{Example, Manifest, Parameter};

pub(super) static MANIFEST: Manifest = Manifest {
    kind: "http",
    checks: "Sends one HTTP request over a fresh connection, and looks at the answer: its status, body, JSON, response \
             time and certificate.",
    parameters: &[
        Parameter::required(
            "url",
            "text",
            "an `http://` or `https://` URL, without user name and password; messages show it without its query",
        ),
        Parameter::optional("method", "text", "`GET`", "`GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE` or `OPTIONS`"),
        Parameter::optional(
            "headers",
            "object of text",
            "none but a `User-Agent`",
            "request headers, `{\"Accept\": \"text/html\"}`",
        )
        .secret(),
        Parameter::optional("body", "text", "none", "the request's body; say its `Content-Type` in `headers`").secret(),
        Parameter::optional("basic_auth", "object", "none", "user name and password for basic authentication"),
        Parameter::optional("basic_auth.username", "text", "required in `basic_auth`", "the user name"),
        Parameter::optional("basic_auth.password", "text", "required in `basic_auth`", "the password").secret(),
        Parameter::optional("bearer_token", "text", "none", "a token, sent as `Authorization: Bearer ...`").secret(),
        Parameter::optional(
            "status",
            "number, text, or a list of them",
            "`200-299`",
            "the statuses that are right: `200`, `\"2xx\"`, `\"200-299\"`, `[200, \"3xx\"]`",
        ),
        Parameter::optional("body_contains", "list of text", "none", "texts that must all stand in the body"),
        Parameter::optional("body_not_contains", "list of text", "none", "texts of which none may stand in the body"),
        Parameter::optional(
            "body_matches",
            "list of text",
            "none",
            "regular expressions (Rust's `regex`) that must all be found in the body",
        ),
        Parameter::optional(
            "body_not_matches",
            "list of text",
            "none",
            "regular expressions of which none may be found in the body",
        ),
        Parameter::optional(
            "json",
            "list of objects",
            "none",
            "what the JSON in the body must hold; every value that a `path` selects must be right",
        ),
        Parameter::optional("json[].path", "text", "required in `json`", "a JSONPath (RFC 9535), such as `$.status`"),
        Parameter::optional(
            "json[].equals",
            "any JSON value but null",
            "not looked at",
            "the value that must be there; 1 equals 1.0",
        ),
        Parameter::optional("json[].min", "number", "no bound", "the least number that is right"),
        Parameter::optional("json[].max", "number", "no bound", "the greatest number that is right"),
        Parameter::optional(
            "json[].matches",
            "text",
            "not looked at",
            "a regular expression to be found in the text (of what is no text: in its JSON)",
        ),
        Parameter::optional("json[].exists", "true or false", "true", "false: the path must select nothing"),
        Parameter::optional(
            "max_response_ms",
            "number",
            "no bound but the row's `timeout_seconds`",
            "how many milliseconds the answer may take, from name lookup to the body's end, redirects included",
        ),
        Parameter::optional(
            "min_certificate_days",
            "number",
            "not looked at",
            "how many days the certificate of the server that answered must still be valid",
        ),
        Parameter::optional("follow_redirects", "true or false", "true", "false: a redirect is the answer"),
        Parameter::optional(
            "max_redirects",
            "number",
            "10",
            "how many redirects are followed, 1 to 20; one more fails",
        ),
        Parameter::optional("ip_version", "number", "either", "4 or 6: connect over this IP version only"),
        Parameter::optional(
            "ca_file",
            "text",
            "the system's certificates",
            "absolute path of a PEM file on the node, with the certificates to trust instead of the system's",
        ),
        Parameter::optional(
            "verify_certificate",
            "true or false",
            "true",
            "false: take any certificate, whoever signed it, for whatever name, expired or not; whoever sits between \
             can then read what is sent, secrets included",
        ),
    ],
    verdicts: "ok when everything that the row asks for holds; failed with the row's severity otherwise, also when no \
               answer came. A certificate with fewer days than `min_certificate_days` fails as `warning` while 3 days \
               or more are left and all else holds. Metrics: `response_ms`, `status`, `body_bytes` (unpacked), \
               `certificate_days_left`.",
    examples: &[
        Example { name: "The shop answers", schedule: "* * * * *", config: r#"{"url": "https://shop.example.com/"}"# },
        Example {
            name: "The shop's API is healthy",
            schedule: "*/5 * * * *",
            config: r#"{"url": "https://shop.example.com/health", "max_response_ms": 2000, "min_certificate_days": 14,
 "json": [{"path": "$.status", "equals": "up"}, {"path": "$.queue.length", "max": 100}]}"#,
        },
        Example {
            name: "The old address leads to the new one",
            schedule: "@hourly",
            config: r#"{"url": "http://example.com/", "method": "HEAD", "follow_redirects": false, "status": [301, 308]}"#,
        },
    ],
    limits: "Of the body, the first 1 MiB is read; what can only be said of a whole body (`json`, that something is \
             missing from it) then fails. It is read as UTF-8. The `url` cannot hold a secret: send tokens in \
             `headers`, since whoever may read the row reads its query. After a redirect to another host, port or \
             scheme `Authorization` and `Cookie` are not sent any more; with a secret in another header or in the \
             body, or with a `Host` header, such a redirect is not followed but fails. No proxy is used, whatever the \
             environment says, no cookie is kept, no HTTP/3 spoken, no script run. The certificate looked at is that \
             of the server that gave the final answer, not of those that redirected to it. The system's trusted \
             certificates are read once, at the first check; `ca_file` is read at each.",
    looks_at_this_machine: false,
};
