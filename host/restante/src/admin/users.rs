//! `/users`

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use restante_deferral::model::{AliasChange, Delivery, Profile, ProfileChange, RecipientKey, Timestamp};
use restante_sip::identity::canonical;
use restante_sip::uri::Uri;
use tokio::sync::oneshot;

use super::model::{User, UserChange, UserContact};
use super::queue::{blocking, recipient, time};
use super::{Administration, Problem};
use crate::server::shard::ToShard;

pub async fn show(State(it): State<Administration>, Path(address): Path<String>) -> Result<Json<User>, Problem> {
    let key = recipient(&it, &address)?;
    let wanted = key.clone();
    let profile = blocking(&it, move |store| store.profile(&wanted)).await?;
    Ok(Json(user(&it, &key, profile).await))
}

pub async fn change(
    State(it): State<Administration>,
    Path(address): Path<String>,
    Json(change): Json<UserChange>,
) -> Result<Json<User>, Problem> {
    let key = recipient(&it, &address)?;
    let change = profile_change(&it, &key, change)?;
    let reservation = match &change.aliases {
        AliasChange::Set(names) => {
            let reservation = it.shared.directory.reserve(&key, names);
            Some(reservation.map_err(|taken| Problem::new(StatusCode::CONFLICT, format!("alias {taken}")))?)
        }
        _ => None,
    };
    let changed = it.shared.change_profile(&key, change, reservation).await;
    let profile = changed.map_err(|error| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("the change could not be kept: {error}"))
    })?;
    Ok(Json(user(&it, &key, profile).await))
}

fn profile_change(it: &Administration, key: &RecipientKey, change: UserChange) -> Result<ProfileChange, Problem> {
    let wrong = |text: String| Problem::new(StatusCode::BAD_REQUEST, text);
    let delivery = match change.delivery.as_deref() {
        None => None,
        Some("push") => Some(Some(Delivery::Push)),
        Some("pull") => Some(Some(Delivery::Pull)),
        Some("hold") => Some(Some(Delivery::Hold)),
        Some("default") => Some(None),
        Some(other) => return Err(wrong(format!("delivery {other:?}: expected push, pull, hold or default"))),
    };
    if let Some(offset) = change.utc_offset_minutes
        && !(-1440..=1440).contains(&offset)
    {
        return Err(wrong(format!("utc_offset_minutes {offset}: expected -1440 to 1440")));
    }
    let aliases = match change.aliases {
        None => AliasChange::Keep,
        Some(aliases) => AliasChange::Set(names(it, key, &aliases).map_err(wrong)?),
    };
    Ok(ProfileChange {
        subscriber_class: change.class.map(|class| Some(class).filter(|class| !class.is_empty())),
        delivery,
        utc_offset_minutes: change.utc_offset_minutes.map(Some),
        aliases,
    })
}

/// Names in canonical form, each once, but for those that the user has anyway.
fn names(it: &Administration, key: &RecipientKey, aliases: &[String]) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for alias in aliases {
        let name = Uri::parse(alias).ok().and_then(|uri| canonical(&uri));
        let name = name.ok_or_else(|| format!("alias {alias:?}: expected sip:USER@DOMAIN or tel:+NUMBER"))?;
        let directory = &it.shared.directory;
        let has_anyway =
            *name == *key.address.0 || (directory.is_configured(&name) && directory.names(key).contains(&name));
        if !has_anyway && !names.contains(&name) {
            names.push(name);
        }
    }
    match names.len() {
        0..=Profile::MAX_ALIASES => Ok(names),
        count => Err(format!("{count} aliases: at most {} are possible", Profile::MAX_ALIASES)),
    }
}

async fn user(it: &Administration, key: &RecipientKey, profile: Profile) -> User {
    let (answer, contacts) = oneshot::channel();
    it.shared.to_recipient(key, ToShard::Contacts(key.clone(), answer));
    let contacts = tokio::time::timeout(std::time::Duration::from_secs(5), contacts).await;
    let contacts: Vec<(String, Timestamp)> = contacts.ok().and_then(Result::ok).unwrap_or_default();
    let totals = it.shared.store.totals(key).0;
    User {
        address: key.address.to_string(),
        tenant: key.tenant.to_string(),
        aliases: it.shared.directory.names(key),
        delivery: profile.delivery.map(|delivery| {
            match delivery {
                Delivery::Push => "push",
                Delivery::Pull => "pull",
                Delivery::Hold => "hold",
            }
            .to_owned()
        }),
        class: profile.subscriber_class,
        utc_offset_minutes: profile.utc_offset_minutes,
        waiting_messages: totals.messages,
        waiting_bytes: totals.size_bytes,
        contacts: contacts.into_iter().map(|(uri, at)| UserContact { uri, expires_at: time(at) }).collect(),
    }
}
