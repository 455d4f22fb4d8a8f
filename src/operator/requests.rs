//! Counts the requests of the Kubernetes client, as a layer around it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::{Request, Response};
use tower::{Layer, Service};

use super::metrics::{Answer, Metrics, Verb};

/// A layer around the Kubernetes client that counts its requests. Repetitions that the client makes by itself count as
/// one.
#[derive(Clone)]
pub struct CountRequests(Arc<Metrics>);

impl CountRequests {
    /// Counts into these metrics.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self(metrics)
    }
}

impl<S> Layer<S> for CountRequests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, metrics: Arc::clone(&self.0) }
    }
}

/// A client whose requests are counted.
#[derive(Clone)]
pub struct Counted<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, A, B> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let verb = verb(&request);
        let metrics = Arc::clone(&self.metrics);
        let answered = self.inner.call(request);
        Box::pin(async move {
            let answer = answered.await;
            metrics.requested(
                verb,
                answer.as_ref().map_or(Answer::None, |answer| class(answer.status().as_u16())),
            );
            answer
        })
    }
}

/// The operation of a request: kube names the operation in an extension, such as `replace_status` or `list_metadata`.
fn verb<A>(request: &Request<A>) -> Verb {
    let operation = request.extensions().get::<&'static str>().copied().unwrap_or_default();
    match operation.split('_').next().unwrap_or_default() {
        "get" => Verb::Get,
        "list" => Verb::List,
        "watch" => Verb::Watch,
        "create" => Verb::Create,
        "replace" => Verb::Update,
        "patch" => Verb::Patch,
        "delete" => Verb::Delete,
        _ => Verb::Other,
    }
}

fn class(code: u16) -> Answer {
    match code {
        ..300 => Answer::Success,
        300..400 => Answer::Redirection,
        400..500 => Answer::Refusal,
        _ => Answer::Failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_classed_by_their_codes() {
        for (code, wanted) in
            [(200, "2xx"), (204, "2xx"), (304, "3xx"), (404, "4xx"), (409, "4xx"), (500, "5xx"), (999, "5xx")]
        {
            assert_eq!(class(code).label(), wanted, "{code}");
        }
    }

    #[test]
    fn requests_are_named_as_roles_name_them() {
        for (operation, wanted) in [
            ("get", Verb::Get),
            ("get_metadata", Verb::Get),
            ("list_metadata", Verb::List),
            ("watch", Verb::Watch),
            ("create", Verb::Create),
            ("replace_status", Verb::Update),
            ("patch_subresource", Verb::Patch),
            ("delete_collection", Verb::Delete),
            ("evict", Verb::Other),
        ] {
            let mut request = Request::new(());
            request.extensions_mut().insert(operation);
            assert_eq!(verb(&request), wanted, "{operation}");
        }
        assert_eq!(verb(&Request::new(())), Verb::Other);
    }
}
