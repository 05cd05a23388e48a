//! `/users`

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use restante_deferral::model::{Delivery, Profile, RecipientKey, Timestamp};
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
    let wanted = key.clone();
    let mut profile = blocking(&it, move |store| store.profile(&wanted)).await?;
    apply(&it, &key, change, &mut profile)?;
    it.shared.save_profile(&key, profile.clone()).await.map_err(|error| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("the change could not be kept: {error}"))
    })?;
    it.shared.to_recipient(&key, ToShard::Profile(key.clone(), profile.clone()));
    Ok(Json(user(&it, &key, profile).await))
}

fn apply(it: &Administration, key: &RecipientKey, change: UserChange, profile: &mut Profile) -> Result<(), Problem> {
    let wrong = |text: String| Problem::new(StatusCode::BAD_REQUEST, text);
    if let Some(delivery) = change.delivery {
        profile.delivery = match delivery.as_str() {
            "push" => Some(Delivery::Push),
            "pull" => Some(Delivery::Pull),
            "hold" => Some(Delivery::Hold),
            "default" => None,
            other => return Err(wrong(format!("delivery {other:?}: expected push, pull, hold or default"))),
        };
    }
    if let Some(class) = change.class {
        profile.subscriber_class = Some(class).filter(|class| !class.is_empty());
    }
    if let Some(offset) = change.utc_offset_minutes {
        if !(-1440..=1440).contains(&offset) {
            return Err(wrong(format!("utc_offset_minutes {offset}: expected -1440 to 1440")));
        }
        profile.utc_offset_minutes = Some(offset);
    }
    if let Some(aliases) = change.aliases {
        let parsed = aliases.iter().map(|alias| {
            let name = Uri::parse(alias).ok().and_then(|uri| canonical(&uri));
            name.ok_or_else(|| wrong(format!("alias {alias:?}: expected sip:USER@DOMAIN or tel:+NUMBER")))
        });
        profile.aliases = parsed.collect::<Result<_, _>>()?;
        let names: Vec<_> = profile.aliases.iter().map(|alias| (alias.clone(), key.address.clone())).collect();
        it.shared.directory.learn(&names);
    }
    Ok(())
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
        aliases: profile.aliases,
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
