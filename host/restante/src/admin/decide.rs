//! `/tenants/NAME/decide/HOOK`: a tenant's policy decides for somebody outside, who carries it out himself.

use std::time::Instant;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use restante_deferral::decision::Undecided;
use restante_policy::Hook;
use restante_policy::record::{read_question, write_answer};
use serde_json::{Map, Value, json};

use super::policies::checked;
use super::{Administration, Problem};

/// Asks. Of what a case or a record has, `context` and `input` are read: settings and host are the tenant's own.
pub(super) async fn decide(
    State(it): State<Administration>,
    Path((tenant, hook)): Path<(String, String)>,
    question: Result<Json<Value>, JsonRejection>,
) -> Result<Response, Response> {
    let known = Hook::ALL.into_iter().find(|known| known.name() == hook);
    let hook = known.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("there is no hook {hook:?}")))?;
    let policies = it.shared.policies();
    let policies =
        policies.ok_or_else(|| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is still starting"))?;
    let Value::Object(mut asked) = checked(question)? else {
        return Err(bad("expected a question as a JSON object").into());
    };
    let context = context(&mut asked, &tenant, hook, (it.shared.clock)().0)?;
    let input = asked.remove("input").unwrap_or_default();
    let question = read_question(hook, context, input).map_err(|error| bad(&error.to_string()))?;
    let asked_at = Instant::now();
    let outcome = policies.decide(question).await.map_err(IntoResponse::into_response)?;
    let micros = u64::try_from(asked_at.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(match outcome {
        Ok(answer) => {
            Json(json!({ "hook": hook.name(), "answer": write_answer(&answer), "micros": micros })).into_response()
        }
        Err((undecided, why)) => {
            let reply = json!({ "hook": hook.name(), "undecided": undecided, "why": why, "micros": micros });
            (status_of(undecided), Json(reply)).into_response()
        }
    })
}

/// The context of a question, with the tenant and the time of this server where it says nothing of them.
fn context(asked: &mut Map<String, Value>, tenant: &str, hook: Hook, now: u64) -> Result<Value, Problem> {
    if asked.get("hook").is_some_and(|said| said != hook.name()) {
        return Err(bad(&format!("hook: is not {:?}, which the path names", hook.name())));
    }
    let mut context = asked.remove("context").unwrap_or_default();
    if let Some(context) = context.as_object_mut() {
        let said = context.entry("tenant").or_insert_with(|| tenant.into());
        if said != tenant {
            return Err(bad(&format!("context.tenant: is not {tenant:?}, which the path names")));
        }
        context.entry("now").or_insert_with(|| now.into());
    }
    Ok(context)
}

fn status_of(undecided: Undecided) -> StatusCode {
    match undecided {
        Undecided::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn bad(text: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, text)
}
