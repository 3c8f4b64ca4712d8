//! The one thing that lambda_runtime leaves out: to say why the function can't start.
//!
//! A process that just ends is reported as `Runtime.ExitError`, and whoever looks at the failed event finds
//! no reason. What is posted here is the answer of the invocation that started the function.
//!
//! Source: AWS Lambda Developer Guide, "Using the Lambda runtime API for custom runtimes",
//! "Initialization error".

use lambda_runtime::{Diagnostic, Error};
use lambda_runtime_api_client::{Client, body::Body, build_request};

/// Tells Lambda that the function can't start, and why.
///
/// # Errors
/// When Lambda could not be told. The reason is then only in the log.
pub async fn report_init_error(error: &(dyn std::error::Error + Send + Sync)) -> Result<(), Error> {
    let diagnostic =
        Diagnostic { error_type: "Runtime.ConfigInvalid".to_owned(), error_message: error.to_string() };
    let request = build_request()
        .method("POST")
        .uri("/2018-06-01/runtime/init/error")
        .header("lambda-runtime-function-error-type", &diagnostic.error_type)
        .body(Body::from(serde_json::to_string(&diagnostic)?))?;
    Client::builder().build()?.call(request).await?;
    Ok(())
}
