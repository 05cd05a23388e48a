//! `/users`

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use restante_deferral::model::{AliasChange, Delivery, Profile, ProfileChange, RecipientKey, Timestamp};
use restante_sip::authentication::{Algorithm, HashOfA1};
use restante_sip::identity::canonical;
use restante_sip::registration::{EmbeddedDevice, ReportedDevices};
use restante_sip::uri::Uri;
use restante_store::UserCredentials;
use tokio::sync::oneshot;

use super::model::{CredentialsChange, ReportedRegistration, User, UserAuthentication, UserChange, UserContact};
use super::queue::{blocking, recipient};
use super::{Administration, Problem};
use crate::server::shard::ToShard;
use crate::times::to_the_second;

/// A week: longest that a report is believed, in seconds.
const MAX_REPORTED_SECONDS: u32 = 7 * 24 * 3600;
/// Longest username, in bytes.
const MAX_USERNAME_BYTES: usize = 255;

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
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("the change could not be saved: {error}"))
    })?;
    Ok(Json(user(&it, &key, profile).await))
}

pub async fn set_credentials(
    State(it): State<Administration>,
    Path(address): Path<String>,
    Json(change): Json<CredentialsChange>,
) -> Result<Json<User>, Problem> {
    let key = recipient(&it, &address)?;
    let credentials = credentials(&it, &key, &change)?;
    change_credentials(it, key, Some(credentials)).await
}

pub async fn remove_credentials(
    State(it): State<Administration>,
    Path(address): Path<String>,
) -> Result<Json<User>, Problem> {
    let key = recipient(&it, &address)?;
    change_credentials(it, key, None).await
}

/// A user registered somewhere else, or is gone from there. It is durable before anybody is told, like a REGISTER, but after
/// this answer: whoever needs to know asks for the user.
pub async fn report_registration(
    State(it): State<Administration>,
    Path(address): Path<String>,
    Json(told): Json<ReportedRegistration>,
) -> Result<StatusCode, Problem> {
    let key = recipient(&it, &address)?;
    let reported = reported_devices(&it, &key, &told)?;
    let order = ToShard::Report(key.clone(), Box::new(reported));
    if !it.shared.to_recipient_or_full(&key, order) {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is overloaded; try again"));
    }
    Ok(StatusCode::ACCEPTED)
}

fn reported_devices(
    it: &Administration,
    key: &RecipientKey,
    told: &ReportedRegistration,
) -> Result<ReportedDevices, Problem> {
    let wrong = |text: String| Problem::new(StatusCode::BAD_REQUEST, text);
    let tenant = it.shared.directory.tenant(&key.tenant);
    let events = tenant.as_ref().and_then(|tenant| tenant.registration_events.as_ref());
    let via = told.via.clone().or_else(|| events.map(|events| events.via.clone()));
    let via = via.ok_or_else(|| wrong("via: expected a SIP URI that leads to the user's devices".to_owned()))?;
    if !Uri::parse(&via).is_ok_and(|uri| uri.as_sip().is_some_and(|uri| uri.headers.is_none())) {
        return Err(wrong(format!("via {via:?}: expected a SIP URI")));
    }
    if !(1..=MAX_REPORTED_SECONDS).contains(&told.expires_seconds) {
        return Err(wrong(format!("expires_seconds: expected 1 to {MAX_REPORTED_SECONDS}")));
    }
    // Of whom nothing is known, everything may be tried.
    let unknown = || vec![format!("<{}>", key.address)];
    let contacts = told.contacts.clone().unwrap_or_else(unknown);
    let limits = &it.shared.limits;
    if contacts.len() as u64 > limits.max_contacts {
        return Err(wrong(format!("contacts: at most {}", limits.max_contacts)));
    }
    let device = |text: &String| {
        EmbeddedDevice::read(text).ok_or_else(|| wrong(format!("contacts: {text:?} is not a Contact value")))
    };
    let devices = contacts.iter().map(device).collect::<Result<Vec<_>, _>>()?;
    let seconds = u64::from(told.expires_seconds).min(limits.max_registration_seconds);
    let now = (it.shared.clock)();
    let expires_at = now.0.saturating_add(seconds.saturating_mul(1000));
    // Whoever tells of somebody does so because that one registered.
    Ok(ReportedDevices { core_uri: via, devices, expires_at, is_news: true })
}

async fn change_credentials(
    it: Administration,
    key: RecipientKey,
    credentials: Option<UserCredentials>,
) -> Result<Json<User>, Problem> {
    // Goes on to its end also when whoever asked does not wait for it.
    let changed = tokio::spawn(async move {
        let users = &it.shared.authentication.users;
        let changing = users.changing.lock().await;
        if let Some(credentials) = &credentials {
            let free = users.check(&key, &credentials.username);
            free.map_err(|taken| Problem::new(StatusCode::CONFLICT, taken.to_string()))?;
        }
        it.shared.change_credentials(&key, credentials).await.map_err(|error| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("the change could not be saved: {error}"))
        })?;
        drop(changing);
        let wanted = key.clone();
        let profile = blocking(&it, move |store| store.profile(&wanted)).await?;
        Ok(Json(user(&it, &key, profile).await))
    });
    let interrupted = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error; see the server's log");
    changed.await.map_err(interrupted)?
}

fn credentials(
    it: &Administration,
    key: &RecipientKey,
    change: &CredentialsChange,
) -> Result<UserCredentials, Problem> {
    let wrong = |text: String| Problem::new(StatusCode::BAD_REQUEST, text);
    let realm = it.shared.directory.tenant(&key.tenant).map(|tenant| tenant.digest.realm.clone());
    if realm.as_deref() != Some(&*change.realm) {
        let realm = realm.unwrap_or_default();
        let text = format!("realm {:?}: that of tenant {} is {realm:?}", change.realm, key.tenant);
        return Err(Problem::new(StatusCode::CONFLICT, text));
    }
    let is_writable = !change.username.is_empty() && !change.username.contains(char::is_control);
    if !is_writable || change.username.len() > MAX_USERNAME_BYTES {
        return Err(wrong(format!("username: expected 1 to {MAX_USERNAME_BYTES} bytes of text")));
    }
    let hash = |(name, text): (&String, &String)| {
        let algorithm = Algorithm::named(Some(name));
        let hash = algorithm.and_then(|algorithm| HashOfA1::from_hexadecimal(algorithm, text));
        // What it is instead is not repeated: it may be a password.
        let hash = hash.ok_or_else(|| {
            wrong(format!("hashes: {name:?} is not an algorithm, or its value is not a hash of that algorithm"))
        })?;
        Ok((hash.algorithm().as_str().to_owned(), hash.bytes().to_vec()))
    };
    let hashes: Vec<_> = change.hashes.iter().map(hash).collect::<Result<_, Problem>>()?;
    if hashes.is_empty() {
        return Err(wrong("hashes: expected at least one".to_owned()));
    }
    Ok(UserCredentials { username: change.username.clone(), realm: change.realm.clone(), hashes })
}

/// Longest class of a user: it is in every question to the policy.
const MAX_CLASS_BYTES: usize = 100;

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
    if let Some(class) = change.class.as_deref().filter(|class| class.len() > MAX_CLASS_BYTES) {
        return Err(wrong(format!("class has {} bytes: expected at most {MAX_CLASS_BYTES}", class.len())));
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
        authentication: authentication(it, key),
        contacts: contacts.into_iter().map(|(uri, at)| UserContact { uri, expires_at: to_the_second(at) }).collect(),
    }
}

fn authentication(it: &Administration, key: &RecipientKey) -> UserAuthentication {
    let tenant = it.shared.directory.tenant(&key.tenant);
    let digest = tenant.as_ref().map(|tenant| &tenant.digest);
    let realm = digest.map(|digest| digest.realm.to_string()).unwrap_or_default();
    let known = it.shared.authentication.users.of(key).filter(|known| known.realm == realm);
    let name = |algorithm: &Algorithm| algorithm.as_str().to_owned();
    // A hash serves an algorithm and its `-sess` variant.
    let mut algorithms: Vec<String> = Vec::new();
    for variant in digest.iter().flat_map(|digest| &digest.algorithms) {
        let name = name(&variant.algorithm);
        if !algorithms.contains(&name) {
            algorithms.push(name);
        }
    }
    UserAuthentication {
        is_demanded: digest.is_some_and(|digest| digest.is_demanded),
        realm,
        algorithms,
        username: known.as_ref().map(|known| known.username.clone()),
        hashed: known.iter().flat_map(|known| &known.hashes).map(|hash| name(&hash.algorithm())).collect(),
    }
}
